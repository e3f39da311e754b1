"""latent.upscale: another size for a picture that is not decoded yet, to be sampled further."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from spindle_common.problems import BadInput
from spindle_worker.diffusion import LatentBatch
from spindle_worker.node import Context, Field, Inputs, Latents, Outputs, node
from spindle_worker.nodes.latent import latents_in
from spindle_worker.nodes.sampling import MAX_SIDE, loaded

if TYPE_CHECKING:
    from torch import Tensor


class UpscaleInputs(Inputs):
    """Latents and their new size."""

    latents: Latents = Field(description="What image.sample or image.encode gave.")
    scale: float | None = Field(None, gt=0, le=8, description="Factor for both sides; not with width or height.")
    width: int | None = Field(None, ge=16, le=MAX_SIDE, description="Pixels of the picture; alone, the height follows.")
    height: int | None = Field(None, ge=16, le=MAX_SIDE, description="Pixels of the picture; alone, the width follows.")
    method: Literal["nearest", "bilinear", "bicubic", "area"] = Field("nearest", description="The filter.")
    fit: Literal["stretch", "cover"] = Field("stretch", description="`cover` keeps the shape and cuts off the rest.")


class UpscaleOutputs(Outputs):
    """A handle on the latents."""

    latents: Latents = Field(description="The latents in their new size.")


@node("latent.upscale@1", queue="gpu", title="Resize latents", timeout="5m")
def upscale(inputs: UpscaleInputs, ctx: Context) -> UpscaleOutputs:
    """Resizes latents, for a second round of sampling at another size."""
    latents = _laid_out(latents_in(inputs.latents), ctx)
    tensor: Any = latents.tensor
    cell = latents.width // tensor.shape[-1]
    width, height = (max(1, round(side / cell)) for side in _new_size(latents, inputs))
    if not all(16 <= side * cell <= MAX_SIDE for side in (width, height)):
        raise BadInput(
            f"The picture would have {width * cell} x {height * cell} pixels; sides of 16 to {MAX_SIDE} are made"
        )
    resized = _resized(tensor, (height, width), inputs)
    mask = None if latents.mask is None else _resized(latents.mask, (height, width), inputs)
    return UpscaleOutputs(latents=replace(latents, tensor=resized, width=width * cell, height=height * cell, mask=mask))


def _laid_out(latents: LatentBatch, ctx: Context) -> LatentBatch:
    """Lay out latents that are a sequence of patches as a picture."""
    if latents.tensor.ndim != 3:
        return latents
    from spindle_worker.diffusion.codec import unpacked

    with loaded(ctx, latents.recipe) as model:
        return replace(latents, tensor=unpacked(model, latents.tensor, latents.width, latents.height))


def _new_size(latents: LatentBatch, inputs: UpscaleInputs) -> tuple[float, float]:
    sides = (inputs.width, inputs.height)
    if (inputs.scale is None) == (sides == (None, None)):
        raise BadInput("Give either scale, or width and height or one of them")
    if inputs.scale is not None:
        return latents.width * inputs.scale, latents.height * inputs.scale
    shape = latents.width / latents.height
    width = inputs.width or (inputs.height or 1) * shape
    return width, inputs.height or width / shape


def _resized(tensor: "Tensor", cells: tuple[int, int], inputs: UpscaleInputs) -> "Tensor":
    from torch.nn.functional import interpolate

    if inputs.fit == "cover":
        tensor = _cut(tensor, cells)
    mode = "nearest-exact" if inputs.method == "nearest" else inputs.method
    return interpolate(tensor.float(), size=cells, mode=mode).to(tensor.dtype)


def _cut(tensor: "Tensor", cells: tuple[int, int]) -> "Tensor":
    """The middle of the latents that has the new shape."""
    rows, columns = tensor.shape[-2:]
    wanted = cells[1] / cells[0]
    across, down = (
        (round((columns - rows * wanted) / 2), 0)
        if columns / rows > wanted
        else (0, round((rows - columns / wanted) / 2))
    )
    return tensor[..., down : rows - down, across : columns - across]
