"""Reads the five attributes back from the pixels of a picture, with no learned part.

The background is the commonest palette colour of the frame; the shape is every pixel nearer to the colour that stands
out than to the background. Its centre of area tells the place, its larger side the size, and the drawn template that
overlaps it most, both stretched to the same box, the shape. Any picture size will do; lengths are taken in 128ths.
"""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.render import Placement, coverage
from training.scene import COLOURS, SHAPES, Scene
from training.settings import IMAGE_SIZE

FRAME_SHARE = 0.02
MIDDLE = 14.0
"""A centre of area nearer to the picture's than this is `centre`."""
LARGE = 47.0
"""A shape whose larger side is longer than this is `large`."""
TEMPLATE = 48

_NAMES = tuple(COLOURS)
_PALETTE = np.array(list(COLOURS.values()), dtype=np.float64)

Mask = NDArray[np.bool_]
Pixels = NDArray[np.float64]


def classify(picture: Image.Image) -> Scene:
    """The scene a picture shows; `none` in every field but the background where nothing stands out from that."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float64)
    background = _frame_colour(pixels)
    mask, colour = _foreground(pixels, np.array(COLOURS[background]))
    if mask.sum() < 0.002 * mask.size:
        return Scene("none", "none", background, "none", "none")
    box = _box(mask)
    side = max(box[2] - box[0], box[3] - box[1]) * IMAGE_SIZE / mask.shape[0]
    return Scene(
        shape=_shape(mask, box),
        colour=_NAMES[int(_nearest(colour))],
        background=background,
        size="large" if side > LARGE else "small",
        place=_place(mask),
    )


def _frame_colour(pixels: Pixels) -> str:
    width = max(1, round(FRAME_SHARE * pixels.shape[0]))
    inner = np.zeros(pixels.shape[:2], dtype=bool)
    inner[width:-width, width:-width] = True
    return _NAMES[int(np.bincount(_nearest(pixels[~inner])).argmax())]


def _nearest(colours: Pixels) -> NDArray[np.int64]:
    """Which palette colour each of `colours` `[..., 3]` is nearest to."""
    found: NDArray[np.int64] = np.linalg.norm(colours[..., None, :] - _PALETTE, axis=-1).argmin(-1)
    return found


def _foreground(pixels: Pixels, background: Pixels) -> tuple[Mask, Pixels]:
    """The pixels of the shape, and its median colour taken where it differs most from the background."""
    distance = np.linalg.norm(pixels - background, axis=-1)
    outstanding = distance > max(30.0, 0.7 * float(np.quantile(distance, 0.99)))
    if not outstanding.any():
        return outstanding, background
    colour: Pixels = np.median(pixels[outstanding], axis=0)
    mask = distance > np.linalg.norm(pixels - colour, axis=-1)
    return mask, colour


def _box(mask: Mask) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the shape, right and bottom excluded; lone pixels do not count."""
    columns = np.flatnonzero(mask.sum(0) > 1)
    rows = np.flatnonzero(mask.sum(1) > 1)
    if not len(columns) or not len(rows):
        return 0, 0, mask.shape[1], mask.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _place(mask: Mask) -> str:
    rows, columns = np.nonzero(mask)
    x = columns.mean() * IMAGE_SIZE / mask.shape[1] - IMAGE_SIZE / 2
    y = rows.mean() * IMAGE_SIZE / mask.shape[0] - IMAGE_SIZE / 2
    if math.hypot(x, y) < MIDDLE:
        return "centre"
    if abs(x) > abs(y):
        return "left" if x < 0 else "right"
    return "top" if y < 0 else "bottom"


def _shape(mask: Mask, box: tuple[int, int, int, int]) -> str:
    stretched = _stretch(Image.fromarray(mask.astype(np.uint8) * 255), box)
    return max(SHAPES, key=lambda shape: _overlap(stretched, _template(shape)))


@cache
def _template(shape: str) -> Pixels:
    drawn = coverage(shape, Placement(IMAGE_SIZE / 2, IMAGE_SIZE / 2, IMAGE_SIZE / 3))
    return _stretch(drawn, _box(np.asarray(drawn) > 127))


def _stretch(mask: Image.Image, box: tuple[int, int, int, int]) -> Pixels:
    stretched = mask.resize((TEMPLATE, TEMPLATE), Image.Resampling.BILINEAR, box=box)
    return np.asarray(stretched, dtype=np.float64) / 255


def _overlap(one: Pixels, other: Pixels) -> float:
    return float(np.minimum(one, other).sum() / np.maximum(one, other).sum())
