"""text.encode, image.sample, image.decode, image.encode: the parts of image.generate as nodes of their own.

What passes between them (conditioning, latents) stays in the worker's memory.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

from spindle_common.problems import BadInput
from spindle_worker.diffusion import Conditioning as Encoded
from spindle_worker.diffusion import LatentBatch
from spindle_worker.models import LoadedModel
from spindle_worker.node import Conditioning, Context, Field, Image, Inputs, Latents, ModelRef, Outputs, node
from spindle_worker.nodes.image import fitted
from spindle_worker.nodes.sampling import Sized, Words, loaded, request
from spindle_worker.pictures import flat_rgb, read_picture, write_picture

T = TypeVar("T")


class TextEncodeInputs(Words):
    """A prompt and the model it is for."""

    model: ModelRef | None = Field(None, description="A configured model; unset: the default one.")


class TextEncodeOutputs(Outputs):
    """A handle on the encoded prompt."""

    conditioning: Conditioning = Field(description="The encoded prompt.")


@node("text.encode@1", queue="gpu", title="Encode a prompt", timeout="10m")
def text_encode(inputs: TextEncodeInputs, ctx: Context) -> TextEncodeOutputs:
    """Encodes a prompt once, for several pictures."""
    from spindle_worker.diffusion.codec import encode_text

    with loaded(ctx, inputs.model) as model:
        return TextEncodeOutputs(conditioning=encode_text(model, inputs.prompt, inputs.negative_prompt))


class SampleInputs(Sized):
    """An encoded prompt, and how to sample."""

    conditioning: Conditioning = Field(description="An encoded prompt of the same model.")
    latents: Latents | None = Field(None, description="Where to start from; unset: pure noise.")
    strength: float = Field(1.0, gt=0, le=1, description="How much of `latents` may change.")


class SampleOutputs(Outputs):
    """A handle on the latents, and the seed they came from."""

    latents: Latents = Field(description="The picture before it is decoded.")
    seed: int = Field(description="The seed that was used.")


@node("image.sample@1", queue="gpu", title="Run the denoise loop", timeout="30m")
def sample(inputs: SampleInputs, ctx: Context) -> SampleOutputs:
    """Makes latents from an encoded prompt, out of noise or of other latents."""
    from spindle_worker.diffusion import sampling

    words = _handle(inputs.conditioning, Encoded)
    start = None if inputs.latents is None else _handle(inputs.latents, LatentBatch)
    with loaded(ctx, inputs.model or words.recipe) as model:
        _same_model(model, words.recipe, "conditioning")
        size: tuple[int | None, int | None] = (inputs.width, inputs.height)
        if start is not None:
            _same_model(model, start.recipe, "latents")
            size = _size_of(start, inputs)
        asked = request(ctx, model, inputs, words, size, start=start, strength=inputs.strength)
        return SampleOutputs(latents=sampling.sample(model, asked, ctx), seed=asked.seed)


class DecodeInputs(Inputs):
    """A handle on latents."""

    latents: Latents = Field(description="What image.sample gave.")
    model: ModelRef | None = Field(None, description="The model that made them; unset: that one.")


class DecodeOutputs(Outputs):
    """A picture."""

    image: Image = Field(description="The picture, a bare PNG.")


@node("image.decode@1", queue="gpu", title="Decode latents to a picture", timeout="10m")
def decode(inputs: DecodeInputs, ctx: Context) -> DecodeOutputs:
    """Turns latents into a picture."""
    from spindle_worker.diffusion.codec import decode_latents

    latents = _handle(inputs.latents, LatentBatch)
    with loaded(ctx, inputs.model or latents.recipe) as model:
        _same_model(model, latents.recipe, "latents")
        picture = decode_latents(model, latents)
    return DecodeOutputs(image=write_picture(ctx, picture))


class EncodeInputs(Inputs):
    """A picture and the model it is for."""

    image: Image = Field(description="The picture to encode.")
    model: ModelRef | None = Field(None, description="A configured model; unset: the default one.")


class EncodeOutputs(Outputs):
    """A handle on the latents."""

    latents: Latents = Field(description="The picture as the model's latents.")


@node("image.encode@1", queue="gpu", title="Encode a picture to latents", timeout="10m")
def encode(inputs: EncodeInputs, ctx: Context) -> EncodeOutputs:
    """Turns a picture into latents to start from; sides are trimmed to multiples of 8."""
    from spindle_worker.diffusion.codec import encode_picture

    given = flat_rgb(read_picture(ctx, inputs.image))
    with loaded(ctx, inputs.model) as model:
        return EncodeOutputs(latents=encode_picture(model, fitted(model, given, None, None)))


def _handle(value: Any, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise BadInput(f"What came is no {kind.__name__} but {type(value).__name__}")
    return value


def _same_model(model: LoadedModel, recipe: Mapping[str, Any], what: str) -> None:
    if recipe["digest"] != model.digest:
        raise BadInput(f"The {what} were made by the model {recipe['model']}, and {model.name} cannot use them")


def _size_of(start: LatentBatch, inputs: SampleInputs) -> tuple[int, int]:
    asked = (inputs.width or start.width, inputs.height or start.height)
    if asked != (start.width, start.height):
        raise BadInput(f"The latents to start from are of {start.width} x {start.height}, not {asked[0]} x {asked[1]}")
    return asked
