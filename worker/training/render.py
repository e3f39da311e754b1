"""Draws a scene with Pillow, four times too large and then averaged down, with a little jitter in size and place."""

import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from training.scene import COLOURS, Scene
from training.settings import IMAGE_SIZE
from training.shapes import Array, outline

SUPERSAMPLE = 4
RADII = {"small": 18.0, "large": 32.0}
OFFSETS = {"small": 33.0, "large": 26.0}
"""Pixels from the picture's centre to the shape's, by size: large shapes stay whole."""
JITTER_PIXELS = 2.0
JITTER_SCALE = 0.04

_DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1), "centre": (0, 0)}


@dataclass(frozen=True)
class Placement:
    """Where the shape's centre of area is and how large it is, in pixels."""

    x: float
    y: float
    radius: float


def placement(size: str, place: str, rng: random.Random) -> Placement:
    """A placement that fits the two attributes, jittered by `rng`."""
    along_x, along_y = _DIRECTIONS[place]
    centre = IMAGE_SIZE / 2
    return Placement(
        x=centre + along_x * OFFSETS[size] + rng.uniform(-JITTER_PIXELS, JITTER_PIXELS),
        y=centre + along_y * OFFSETS[size] + rng.uniform(-JITTER_PIXELS, JITTER_PIXELS),
        radius=RADII[size] * (1 + rng.uniform(-JITTER_SCALE, JITTER_SCALE)),
    )


def contours(shape: str, where: Placement) -> list[Array]:
    """The shape's contours in pixels of the picture, the origin at its top left corner."""
    return [contour * where.radius + np.array([where.x, where.y]) for contour in outline(shape)]


def coverage(shape: str, where: Placement) -> Image.Image:
    """How much of each pixel the shape covers: mode L, 0 to 255, `IMAGE_SIZE` a side."""
    large = Image.new("L", (IMAGE_SIZE * SUPERSAMPLE, IMAGE_SIZE * SUPERSAMPLE))
    draw = ImageDraw.Draw(large)
    for index, contour in enumerate(contours(shape, where)):
        corners = [(float(x), float(y)) for x, y in contour * SUPERSAMPLE - 0.5]
        draw.polygon(corners, fill=0 if index else 255)
    return large.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX)


def render(scene: Scene, rng: random.Random) -> Image.Image:
    """The scene as an RGB picture, `IMAGE_SIZE` a side."""
    mask = coverage(scene.shape, placement(scene.size, scene.place, rng))
    picture = Image.new("RGB", mask.size, COLOURS[scene.background])
    picture.paste(COLOURS[scene.colour], (0, 0, *mask.size), mask)
    return picture
