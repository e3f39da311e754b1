"""text.encode, image.sample, image.decode, image.encode: the parts of image.generate as nodes of their own.

What passes between them (conditioning, latents) stays in the worker's memory.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from spindle_common.problems import BadInput
from spindle_worker.diffusion import Conditioning as Encoded
from spindle_worker.diffusion import LatentBatch, Request, Spacing
from spindle_worker.models import LoadedModel
from spindle_worker.node import Conditioning, Context, Field, Image, Inputs, Latents, ModelRef, Outputs, node
from spindle_worker.nodes.conditioning import encoded
from spindle_worker.nodes.image import fitted
from spindle_worker.nodes.mask import grey_under, mask_cells, mask_of
from spindle_worker.nodes.sampling import Sized, Words, loaded, refuse_lone_vae, request
from spindle_worker.pictures import flat_rgb, read_picture, write_picture


class TextEncodeInputs(Words):
    """A prompt and the model it is for."""

    model: ModelRef | None = Field(None, description="A configured model; unset: the default one.")
    layer: int | None = Field(
        None, ge=-24, le=-1, description="Layer of the text encoder, from its end; unset: the model's own."
    )
    syntax: Literal["plain", "weights"] = Field(
        "plain", description="`weights`: (words:1.2) weighs words, ( and ) alone weigh 1.1, and prompts may be long."
    )


class TextEncodeOutputs(Outputs):
    """A handle on the encoded prompt."""

    conditioning: Conditioning = Field(description="The encoded prompt.")


@node("text.encode@1", queue="gpu", title="Encode a prompt", timeout="10m")
def text_encode(inputs: TextEncodeInputs, ctx: Context) -> TextEncodeOutputs:
    """Encodes a prompt once, for several pictures."""
    from spindle_worker.diffusion.codec import encode_text
    from spindle_worker.diffusion.words import Wording

    with loaded(ctx, inputs.model) as model:
        how = Wording(weighted=inputs.syntax == "weights", layer=inputs.layer)
        return TextEncodeOutputs(conditioning=encode_text(model, inputs.prompt, inputs.negative_prompt, how=how))


class SampleInputs(Sized):
    """An encoded prompt, and how to sample."""

    conditioning: Conditioning = Field(description="An encoded prompt of the same model.")
    negative: Conditioning | None = Field(
        None, description="An encoded prompt to keep away from; unset: the negative prompt of `conditioning`."
    )
    latents: Latents | None = Field(None, description="Where to start from; unset: pure noise.")
    strength: float = Field(1.0, gt=0, le=1, description="How much of `latents` may change.")
    spacing: Spacing | None = Field(None, description="How the noise levels lie; unset: the scheduler's own way.")
    first_step: int | None = Field(
        None, ge=0, le=1000, description="First of `steps` to be made, from 0, instead of `strength`."
    )
    last_step: int | None = Field(None, ge=1, le=1000, description="The step behind the last; unset: all.")
    add_noise: bool = Field(True, description="Whether noise is laid over `latents` first.")
    leftover_noise: bool = Field(False, description="Whether ending before the last step leaves the noise in.")
    noise_index: int = Field(0, ge=0, le=4095, description="Which noise of the seed: the n-th of a batch.")


class SampleOutputs(Outputs):
    """A handle on the latents, and the seed they came from."""

    latents: Latents = Field(description="The picture before it is decoded.")
    seed: int = Field(description="The seed that was used.")


@node("image.sample@1", queue="gpu", title="Run the denoise loop", timeout="30m")
def sample(inputs: SampleInputs, ctx: Context) -> SampleOutputs:
    """Makes latents from an encoded prompt, out of noise or of other latents."""
    from spindle_worker.diffusion import sampling

    words = encoded(inputs.conditioning)
    with loaded(ctx, inputs.model or words.recipe) as model:
        asked = _request(inputs, model, ctx)
        return SampleOutputs(latents=sampling.sample(model, asked, ctx), seed=asked.seed)


_PARTS = ("strength", "spacing", "first_step", "last_step", "add_noise", "leftover_noise", "noise_index")


def _request(inputs: SampleInputs, model: LoadedModel, ctx: Context) -> Request:
    words, more = encoded(inputs.conditioning), {name: getattr(inputs, name) for name in _PARTS}
    _encoded_for(model, words, "conditioning")
    size: tuple[int | None, int | None] = (inputs.width, inputs.height)
    if inputs.negative is not None:
        more["negative"] = encoded(inputs.negative)
        _encoded_for(model, more["negative"], "negative conditioning")
    if inputs.latents is not None:
        start = latents_in(inputs.latents)
        _understood(model, start)
        size = _size_of(start, inputs)
        more["start"] = start
    return request(ctx, model, inputs, words, size, **more)


class DecodeInputs(Inputs):
    """A handle on latents."""

    latents: Latents = Field(description="What image.sample gave.")
    model: ModelRef | None = Field(None, description="The model that made them; unset: that one.")
    vae: ModelRef | None = Field(None, description="A model whose VAE decodes them instead, or a VAE alone.")


class DecodeOutputs(Outputs):
    """A picture."""

    image: Image = Field(description="The picture, a bare PNG.")


@node("image.decode@1", queue="gpu", title="Decode latents to a picture", timeout="10m")
def decode(inputs: DecodeInputs, ctx: Context) -> DecodeOutputs:
    """Turns latents into a picture."""
    from spindle_worker.diffusion.codec import decode_latents

    latents = latents_in(inputs.latents)
    with loaded(ctx, inputs.vae or inputs.model or latents.recipe) as model:
        if inputs.vae is None:
            _same_model(model, latents.recipe, "latents")
        picture = decode_latents(model, latents)
    return DecodeOutputs(image=write_picture(ctx, picture))


class EncodeInputs(Inputs):
    """A picture and the model it is for."""

    image: Image = Field(description="The picture to encode.")
    model: ModelRef | None = Field(None, description="A configured model; unset: the default one.")
    vae: ModelRef | None = Field(None, description="A model whose VAE encodes it instead, or a VAE alone.")
    mask: Image | None = Field(None, description="White where the picture shall change: grey goes there, noise later.")
    grow_mask: int = Field(0, ge=0, le=64, description="Pixels that the mask grows to all sides together.")


class EncodeOutputs(Outputs):
    """A handle on the latents."""

    latents: Latents = Field(description="The picture as the model's latents.")


@node("image.encode@1", queue="gpu", title="Encode a picture to latents", timeout="10m")
def encode(inputs: EncodeInputs, ctx: Context) -> EncodeOutputs:
    """Turns a picture into latents to start from; sides are trimmed to multiples of 8."""
    from spindle_worker.diffusion.codec import encode_picture

    picture = read_picture(ctx, inputs.image)
    mask = None if inputs.mask is None else mask_of(read_picture(ctx, inputs.mask), picture.size)
    given = flat_rgb(picture) if mask is None else grey_under(picture.convert("RGB"), mask)
    with loaded(ctx, inputs.vae or inputs.model) as model:
        latents = encode_picture(model, fitted(model, given, None, None))
    if mask is not None:
        latents = replace(latents, mask=mask_cells(mask, latents, inputs.grow_mask))
    return EncodeOutputs(latents=latents)


def latents_in(value: Any) -> LatentBatch:
    """Return what a latents port holds. Raises BadInput."""
    if not isinstance(value, LatentBatch):
        raise BadInput(f"What came is no LatentBatch but {type(value).__name__}")
    return value


def _encoded_for(model: LoadedModel, words: Encoded, what: str) -> None:
    """Refuse prompts of another model, unless its text encoders give what this one takes."""
    refuse_lone_vae(model)
    if model.layout == "pipeline":
        fits = words.positive is None
    else:
        wide = words.positive is not None and words.positive.shape[-1] == model.pipe.unet.config.cross_attention_dim
        fits = wide and (words.pooled is not None) == (model.layout == "sdxl")
    if not fits:
        _same_model(model, words.recipe, what)


def _understood(model: LoadedModel, latents: LatentBatch) -> None:
    """Refuse latents that mean something else to this model, as far as its VAE's configuration tells."""
    from spindle_worker.diffusion.codec import latent_space

    if latents.space != latent_space(model):
        _same_model(model, latents.recipe, "latents")


def _same_model(model: LoadedModel, recipe: Mapping[str, Any], what: str) -> None:
    if recipe["digest"] != model.digest:
        raise BadInput(f"The {what} were made by the model {recipe['model']}, and {model.name} cannot use them")


def _size_of(start: LatentBatch, inputs: SampleInputs) -> tuple[int, int]:
    asked = (inputs.width or start.width, inputs.height or start.height)
    if asked != (start.width, start.height):
        raise BadInput(f"The latents to start from are of {start.width} x {start.height}, not {asked[0]} x {asked[1]}")
    return asked
