"""image.resize and image.grid: work on finished pictures."""

import math
from typing import Literal

from PIL import Image as Pillow
from PIL import ImageColor

from spindle_common.problems import BadInput
from spindle_worker.node import Context, Field, Image, ImageList, Inputs, Outputs, node
from spindle_worker.pictures import check_pixels, read_picture, write_picture

METHODS = {
    "nearest": Pillow.Resampling.NEAREST,
    "box": Pillow.Resampling.BOX,
    "bilinear": Pillow.Resampling.BILINEAR,
    "bicubic": Pillow.Resampling.BICUBIC,
    "lanczos": Pillow.Resampling.LANCZOS,
}
MAX_SIDE = 16_384


class ImageOutputs(Outputs):
    """A picture."""

    image: Image = Field(description="The picture, a bare PNG.")


class ResizeInputs(Inputs):
    """A picture and its new size."""

    image: Image = Field(description="The picture to resize.")
    scale: float | None = Field(None, gt=0, le=16, description="Factor for both sides; not with width or height.")
    width: int | None = Field(None, ge=1, le=MAX_SIDE, description="Pixels; alone, the height follows.")
    height: int | None = Field(None, ge=1, le=MAX_SIDE, description="Pixels; alone, the width follows.")
    method: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] = Field("lanczos", description="The filter.")
    fit: Literal["stretch", "cover"] = Field("stretch", description="`cover` keeps the shape and cuts off the rest.")


@node("image.resize@1", queue="cpu", title="Resize a picture", timeout="2m")
def resize(inputs: ResizeInputs, ctx: Context) -> ImageOutputs:
    """Makes a picture larger or smaller, by a factor or to a width, a height or both."""
    picture = read_picture(ctx, inputs.image)
    size = _new_size(picture.size, inputs)
    check_pixels(*size)
    ctx.check_cancelled()
    box = _covered(picture.size, size) if inputs.fit == "cover" else None
    return ImageOutputs(image=write_picture(ctx, picture.resize(size, METHODS[inputs.method], box=box)))


def _covered(old: tuple[int, int], new: tuple[int, int]) -> tuple[int, int, int, int]:
    """The middle of a picture that has the new shape, in whole pixels."""
    width, height = min(old[0], round(old[1] * new[0] / new[1])), min(old[1], round(old[0] * new[1] / new[0]))
    left, top = (old[0] - max(1, width)) // 2, (old[1] - max(1, height)) // 2
    return left, top, left + max(1, width), top + max(1, height)


def _new_size(size: tuple[int, int], inputs: ResizeInputs) -> tuple[int, int]:
    sides = (inputs.width, inputs.height)
    if (inputs.scale is None) == (sides == (None, None)):
        raise BadInput("Give either scale, or width and height or one of them")
    if inputs.scale is not None:
        factors = (inputs.scale, inputs.scale)
    elif inputs.width is not None:
        across = inputs.width / size[0]
        factors = (across, across if inputs.height is None else inputs.height / size[1])
    else:
        down = (inputs.height or 1) / size[1]
        factors = (down, down)
    return max(1, round(size[0] * factors[0])), max(1, round(size[1] * factors[1]))


class GridInputs(Inputs):
    """Pictures and how to lay them out."""

    images: ImageList = Field(min_length=1, max_length=256, description="Pictures, row by row.")
    columns: int | None = Field(None, ge=1, le=256, description="Unset: about as many as rows.")
    gap: int = Field(0, ge=0, le=256, description="Pixels between two pictures.")
    background: str = Field(
        "#ffffff", pattern=r"^#[0-9a-fA-F]{6}$", description="Colour of gaps and of cells that are not filled."
    )


@node("image.grid@1", queue="cpu", title="Lay pictures out in a grid", timeout="5m")
def grid(inputs: GridInputs, ctx: Context) -> ImageOutputs:
    """Lays pictures out in rows and columns; cells are as large as the largest picture, which keep their sizes."""
    pictures = _read_all(inputs, ctx)
    columns = min(inputs.columns or math.ceil(math.sqrt(len(pictures))), len(pictures))
    rows = math.ceil(len(pictures) / columns)
    cell = (max(p.width for p in pictures), max(p.height for p in pictures))
    size = (columns * (cell[0] + inputs.gap) - inputs.gap, rows * (cell[1] + inputs.gap) - inputs.gap)
    check_pixels(*size)
    sheet = Pillow.new("RGB", size, ImageColor.getrgb(inputs.background))
    for index, picture in enumerate(pictures):
        left = (index % columns) * (cell[0] + inputs.gap) + (cell[0] - picture.width) // 2
        top = (index // columns) * (cell[1] + inputs.gap) + (cell[1] - picture.height) // 2
        sheet.paste(picture, (left, top), picture if picture.mode == "RGBA" else None)
    return ImageOutputs(image=write_picture(ctx, sheet))


def _read_all(inputs: GridInputs, ctx: Context) -> list[Pillow.Image]:
    """Read the pictures, refusing as soon as they are too many pixels together."""
    pictures, pixels = [], 0
    for index, artifact in enumerate(inputs.images):
        ctx.progress(index, len(inputs.images))
        picture = read_picture(ctx, artifact)
        pixels += picture.width * picture.height
        check_pixels(pixels, 1)
        pictures.append(picture)
    return pictures
