"""What a picture shows: five attributes, every combination of them, and the combinations kept out of training."""

import itertools
import random
from dataclasses import dataclass

from training.settings import SEED

Rgb = tuple[int, int, int]

SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross", "ring", "heart")
COLOURS: dict[str, Rgb] = {
    "red": (220, 40, 40),
    "green": (40, 170, 75),
    "blue": (40, 85, 230),
    "yellow": (255, 220, 50),
    "purple": (140, 55, 190),
    "orange": (255, 140, 30),
    "white": (255, 255, 255),
    "black": (20, 20, 20),
}
SIZES = ("small", "large")
PLACES = ("left", "right", "top", "bottom", "centre")
HELD_OUT_SHARE = 0.1


@dataclass(frozen=True, order=True)
class Scene:
    """One coloured shape on a background of another colour."""

    shape: str
    colour: str
    background: str
    size: str
    place: str


def all_scenes() -> list[Scene]:
    """Every combination whose two colours differ: 8 shapes x 56 colour pairs x 2 sizes x 5 places = 4,480."""
    product = itertools.product(SHAPES, COLOURS, COLOURS, SIZES, PLACES)
    return [Scene(*attributes) for attributes in product if attributes[1] != attributes[2]]


def split(seed: int = SEED) -> tuple[list[Scene], list[Scene]]:
    """All scenes as (training, held out), a tenth of them held out, the same for the same seed."""
    scenes = all_scenes()
    random.Random(seed).shuffle(scenes)
    held_out = round(len(scenes) * HELD_OUT_SHARE)
    return sorted(scenes[held_out:]), sorted(scenes[:held_out])
