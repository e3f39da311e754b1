"""image.mask and latent.mask: which part of a picture may change.

A mask is a picture, white where things change and black where they stay. Of the latents that carry one, the loop puts
back what stays after every step, as noisy as the rest is by then.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image as Pillow
from PIL import ImageChops, ImageFilter

from spindle_common.problems import BadInput
from spindle_worker.diffusion import LatentBatch
from spindle_worker.node import Context, Field, Image, Inputs, Latents, Outputs, node
from spindle_worker.pictures import read_picture, write_picture

if TYPE_CHECKING:
    from torch import Tensor

_HALF = 128


class MaskInputs(Inputs):
    """A picture, and what of it is the mask."""

    image: Image = Field(description="The picture that holds the mask.")
    channel: Literal["alpha", "red", "green", "blue"] = Field(
        "alpha", description="Where it is: `alpha` is white where the picture is transparent."
    )
    invert: bool = Field(False, description="Whether black and white change places.")


class MaskOutputs(Outputs):
    """A mask."""

    mask: Image = Field(description="The mask, a grey picture.")


@node("image.mask@1", queue="cpu", title="Take a mask from a picture", timeout="2m")
def mask(inputs: MaskInputs, ctx: Context) -> MaskOutputs:
    """Makes a mask of a picture's transparency, or of one of its colours."""
    picture = read_picture(ctx, inputs.image)
    if inputs.channel == "alpha":
        found = ImageChops.invert(picture.convert("RGBA").getchannel("A"))
    else:
        found = picture.convert("RGB").getchannel(inputs.channel[0].upper())
    return MaskOutputs(mask=write_picture(ctx, ImageChops.invert(found) if inputs.invert else found))


class LatentMaskInputs(Inputs):
    """Latents, and which part of them may change."""

    latents: Latents = Field(description="Latents of a picture.")
    mask: Image = Field(description="White where the picture shall change.")


class LatentMaskOutputs(Outputs):
    """A handle on the latents."""

    latents: Latents = Field(description="The same latents, which carry the mask.")


@node("latent.mask@1", queue="gpu", title="Keep part of a picture as it is", timeout="2m")
def latent_mask(inputs: LatentMaskInputs, ctx: Context) -> LatentMaskOutputs:
    """Has the denoise loop change only the white part of a mask."""
    latents = inputs.latents
    if not isinstance(latents, LatentBatch):
        raise BadInput(f"What came is no LatentBatch but {type(latents).__name__}")
    found = mask_of(read_picture(ctx, inputs.mask), (latents.width, latents.height))
    return LatentMaskOutputs(latents=replace(latents, mask=_cells(found, latents)))


def mask_of(picture: Pillow.Image, size: tuple[int, int]) -> Pillow.Image:
    """Make a grey picture of a mask's size."""
    grey = picture.convert("L")
    return grey if grey.size == size else grey.resize(size, Pillow.Resampling.BILINEAR)


def grey_under(picture: Pillow.Image, mask: Pillow.Image) -> Pillow.Image:
    """Paint grey, which says nothing, where the mask is white."""
    picture = picture.copy()
    picture.paste((_HALF, _HALF, _HALF), mask=_sharp(mask))
    return picture


def mask_cells(mask: Pillow.Image, latents: LatentBatch, grow: int) -> "Tensor":
    """Make a mask sharp, let it grow by `grow` pixels, and lay it over the latents' cells."""
    sharp = _sharp(mask)
    return _cells(sharp.filter(ImageFilter.MaxFilter(grow // 2 * 2 + 1)) if grow > 1 else sharp, latents)


def _sharp(mask: Pillow.Image) -> Pillow.Image:
    return mask.point([255 * (level >= _HALF) for level in range(256)])


def _cells(mask: Pillow.Image, latents: LatentBatch) -> "Tensor":
    """(1, 1, rows, columns) in [0, 1]: what is white at the middle of each cell."""
    import numpy as np
    import torch
    from torch.nn.functional import interpolate

    tensor: Any = latents.tensor
    if tensor.ndim != 4:
        raise BadInput("This model's latents cannot carry a mask")
    fitting = mask if mask.size == (latents.width, latents.height) else mask.resize((latents.width, latents.height))
    values = torch.from_numpy(np.asarray(fitting, dtype=np.float32) / 255.0)[None, None]
    return interpolate(values, size=tuple(tensor.shape[-2:]), mode="bilinear")
