"""image.generate and image.edit: a prompt, and perhaps a picture, to a picture in one node."""

from PIL import Image as Pillow

from spindle_common.problems import BadInput
from spindle_worker.models import LoadedModel
from spindle_worker.node import Context, Field, Image, Outputs, node
from spindle_worker.nodes.sampling import MAX_SIDE, Sized, Words, guidance, loaded, request
from spindle_worker.pictures import flat_rgb, read_picture, write_picture


class GenerateInputs(Words, Sized):
    """A prompt, and how to sample."""


class MadeOutputs(Outputs):
    """A picture, and the seed it came from."""

    image: Image = Field(description="The picture, a bare PNG.")
    seed: int = Field(description="The seed that was used.")


@node("image.generate@1", queue="gpu", title="Make a picture from a prompt", timeout="30m")
def generate(inputs: GenerateInputs, ctx: Context) -> MadeOutputs:
    """Makes a picture from a prompt, showing previews while it grows."""
    from spindle_worker.diffusion import sampling
    from spindle_worker.diffusion.codec import encode_text

    with loaded(ctx, inputs.model) as model:
        words = encode_text(model, inputs.prompt, inputs.negative_prompt, guided=guidance(model, inputs) > 1)
        asked = request(ctx, model, inputs, words, (inputs.width, inputs.height))
        picture = sampling.generate(model, asked, ctx)
    return MadeOutputs(image=write_picture(ctx, picture), seed=asked.seed)


class EditInputs(Words, Sized):
    """A picture, a prompt, and how to sample."""

    image: Image = Field(description="The picture to start from.")
    strength: float = Field(0.8, gt=0, le=1, description="How much may change: 1 leaves almost nothing of it.")


@node("image.edit@1", queue="gpu", title="Change a picture by a prompt", timeout="30m")
def edit(inputs: EditInputs, ctx: Context) -> MadeOutputs:
    """Makes a picture out of another one and a prompt; unset, its size is that of the picture it starts from."""
    from spindle_worker.diffusion import sampling
    from spindle_worker.diffusion.codec import encode_text

    given = flat_rgb(read_picture(ctx, inputs.image))
    with loaded(ctx, inputs.model) as model:
        picture = fitted(model, given, inputs.width, inputs.height)
        words = encode_text(model, inputs.prompt, inputs.negative_prompt, guided=guidance(model, inputs) > 1)
        asked = request(ctx, model, inputs, words, picture.size, strength=inputs.strength)
        made = sampling.edit(model, asked, picture, ctx)
    return MadeOutputs(image=write_picture(ctx, made), seed=asked.seed)


def fitted(model: LoadedModel, picture: Pillow.Image, width: int | None, height: int | None) -> Pillow.Image:
    """Bring a picture to the size asked for, or to the nearest below its own that the model can work with.

    Raises:
        BadInput: it is too large or too small, and no size was asked for.

    """
    grain = max(8, model.scale)
    size = (width or picture.width // grain * grain, height or picture.height // grain * grain)
    if not all(16 <= side <= MAX_SIDE for side in size):
        raise BadInput(
            f"The picture has {picture.width} x {picture.height} pixels, and sides of 16 to {MAX_SIDE} can be worked "
            "on: give width and height, or use image.resize first"
        )
    return picture if picture.size == size else picture.resize(size, Pillow.Resampling.LANCZOS)
