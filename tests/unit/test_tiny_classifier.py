"""The pixel classifier that judges the tiny model's pictures, judged on true drawings."""

import random

import pytest
from PIL import Image

from training.classify import classify
from training.render import render
from training.scene import COLOURS, SHAPES, Scene, all_scenes


def test_true_drawings_are_read_right() -> None:
    rng = random.Random(7)
    scenes = rng.sample(all_scenes(), 200)
    right = sum(classify(render(scene, rng)) == scene for scene in scenes)
    assert right >= 190


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_read_at_half_the_size(shape: str) -> None:
    scene = Scene(shape, "red", "white", "large", "top")
    picture = render(scene, random.Random(8)).resize((64, 64), Image.Resampling.BOX)
    assert classify(picture) == scene


@pytest.mark.parametrize("background", COLOURS)
def test_an_empty_picture_shows_nothing(background: str) -> None:
    found = classify(Image.new("RGB", (128, 128), COLOURS[background]))
    assert found == Scene("none", "none", background, "none", "none")


def test_drawings_repeat_for_a_seed() -> None:
    scene = Scene("heart", "blue", "yellow", "small", "right")
    assert render(scene, random.Random(9)).tobytes() == render(scene, random.Random(9)).tobytes()
    assert render(scene, random.Random(9)).tobytes() != render(scene, random.Random(10)).tobytes()
