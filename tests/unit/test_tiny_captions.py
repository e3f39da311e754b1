"""The tiny model's caption grammar, its held-out split and its tokenizer's words."""

import random

import pytest

from training import captions
from training.scene import COLOURS, SHAPES, Scene, all_scenes, split

SCENE = Scene("circle", "red", "orange", "small", "left")


def test_scenes_are_every_combination_of_two_colours() -> None:
    scenes = all_scenes()
    assert len(scenes) == len(set(scenes)) == 4480
    assert all(scene.colour != scene.background for scene in scenes)


def test_split_holds_a_tenth_out_and_repeats() -> None:
    training, held_out = split()
    assert len(held_out) == 448
    assert not set(training) & set(held_out)
    assert set(training) | set(held_out) == set(all_scenes())
    assert split() == (training, held_out)
    assert split(seed=1)[1] != held_out


def test_held_out_scenes_have_every_shape_and_colour() -> None:
    _, held_out = split()
    assert {scene.shape for scene in held_out} == set(SHAPES)
    assert {scene.colour for scene in held_out} == set(COLOURS)


def test_captions_read_back_as_their_scene() -> None:
    rng = random.Random(5)
    for scene in rng.sample(all_scenes(), 500):
        assert Scene(**captions.read(captions.caption(scene, rng))) == scene


def test_captions_leave_out_what_is_not_told() -> None:
    rng = random.Random(6)
    assert set(captions.read(captions.caption(SCENE, rng, ["size"]))) == {"shape", "colour", "size"}
    assert set(captions.read(captions.caption(SCENE, rng, ["background"]))) == {"shape", "colour", "background"}


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("A small red circle on the left on an orange background", "left"),
        ("a small red circle on an orange background at the top.", "top"),
        ("small red circle, centred, on orange background", "centre"),
        ("a SMALL red circle in the center on an orange background", "centre"),
    ],
)
def test_spellings(text: str, place: str) -> None:
    assert captions.read(text) == {**vars(SCENE), "place": place}


def test_plain_caption_has_both_orders() -> None:
    assert captions.plain_caption(SCENE) == "a small red circle on an orange background on the left"
    assert captions.plain_caption(SCENE, place_last=False) == "a small red circle on the left on an orange background"


def test_caption_without_a_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="names no coloured shape"):
        captions.read("a red sky")
