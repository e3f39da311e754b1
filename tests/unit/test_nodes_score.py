"""image.score: each measure answers to what it measures and to nothing else, whatever the picture's size."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from spindle_common.problems import BadInput
from spindle_worker.calling import parse_inputs
from spindle_worker.nodes.picture import grid
from spindle_worker.nodes.score import MAX_SIDE, measured, score
from spindle_worker.pictures import encode_png
from spindle_worker.testing import run_node, stored

MEASURES = ("sharpness", "contrast", "colour", "brightness", "exposure")


def scored(picture: Image.Image, **inputs: Any) -> dict[str, float]:
    files: dict[str, bytes] = {}
    image = stored(files, encode_png(picture), "image/png")
    return run_node(score, {"image": image, **inputs}, files=files)


def plain(colour: str, size: tuple[int, int] = (32, 32)) -> Image.Image:
    return Image.new("RGB", size, colour)


def halves(left: str, right: str) -> Image.Image:
    picture = plain(left, (64, 64))
    picture.paste(plain(right, (32, 64)), (0, 0))
    return picture


def scene(side: int = 256) -> Image.Image:
    """Smooth ground with hard shapes on it, the same at every size."""
    across, down = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    disc = (across - 0.4) ** 2 + (down - 0.5) ** 2 < 0.06
    grid = (np.floor(across * 16) + np.floor(down * 16)) % 2
    planes = (np.where(disc, 220, 80 * across + 60), np.where(disc, 40, 90 * grid + 60), 120 * down + 40)
    return Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8))


def test_plain_colours() -> None:
    for colour, brightness in (("black", 0), ("white", 1), ("#808080", 128 / 255)):
        found = scored(plain(colour))
        assert (found["sharpness"], found["contrast"], found["colour"]) == (0, 0, 0)
        assert found["brightness"] == pytest.approx(brightness, abs=1e-6)
        assert found["exposure"] == pytest.approx(1 - abs(2 * brightness - 1), abs=1e-6)


def test_black_beside_white_is_all_the_contrast_there_is() -> None:
    found = scored(halves("black", "white"))
    assert (found["contrast"], found["brightness"], found["exposure"], found["colour"]) == (1, 0.5, 1, 0)


def test_colourfulness_is_that_of_its_source() -> None:
    # Pure red: rg = 255, yb = 127.5 everywhere, so M = 0.3 * hypot(255, 127.5).
    assert scored(plain("red"))["colour"] == pytest.approx(0.3 * np.hypot(255, 127.5) / 109, abs=1e-6)
    assert scored(halves("red", "blue"))["colour"] == 1
    grey = scene().convert("L").convert("RGB")
    assert scored(grey)["colour"] == 0 < scored(scene())["colour"]


def test_blur_takes_sharpness_away() -> None:
    blurred = [scored(scene().filter(ImageFilter.GaussianBlur(radius)))["sharpness"] for radius in (0, 1, 2, 4, 8)]
    assert blurred == sorted(blurred, reverse=True)
    assert blurred[0] > 0.5
    assert blurred[-1] < 0.05


def test_the_variance_of_the_laplacian() -> None:
    picture = plain("black", (5, 5))
    picture.putpixel((2, 2), (100, 100, 100))
    laplacian = [0] * 20 + [100] * 4 + [-400]
    variance = float(np.var(laplacian))
    assert measured(picture)["sharpness"] == pytest.approx(variance / (variance + 500))


def test_size_hardly_matters() -> None:
    one, other = scored(scene(1024)), scored(scene(2048))
    assert {name: one[name] for name in MEASURES} == pytest.approx({name: other[name] for name in MEASURES}, abs=0.05)
    assert set(scored(plain("blue", (5000, 1)))) == {"value", *MEASURES}
    assert MAX_SIDE == 512


def test_transparency_lies_over_white() -> None:
    assert scored(Image.new("RGBA", (8, 8), (0, 0, 0, 0)))["brightness"] == 1


def test_weights() -> None:
    usual = scored(scene())
    parts = [usual[name] for name in ("sharpness", "contrast", "colour", "exposure")]
    assert usual["value"] == pytest.approx((2 * parts[0] + sum(parts[1:])) / 5, abs=1e-5)
    assert scored(scene(), weights={"colour": 3})["value"] == usual["colour"]
    assert scored(scene(), weights={"sharpness": 1, "exposure": 3})["value"] == pytest.approx(
        (parts[0] + 3 * parts[3]) / 4, abs=1e-5
    )
    for wrong, why in (
        ({}, "All weights are 0"),
        ({"colour": 0}, "All weights are 0"),
        ({"colour": -1}, "greater than or equal to 0"),
        ({"size": 1}, "size"),
    ):
        with pytest.raises(BadInput, match=why):
            scored(scene(), weights=wrong)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_any_picture_scores_from_0_to_1_and_always_the_same(width: int, height: int, data: st.DataObject) -> None:
    pixels = data.draw(st.binary(min_size=3 * width * height, max_size=3 * width * height))
    found = scored(Image.frombytes("RGB", (width, height), pixels))
    assert all(0 <= value <= 1 for value in found.values())
    assert found == scored(Image.frombytes("RGB", (width, height), pixels))


def test_only_pictures_are_measured() -> None:
    files: dict[str, bytes] = {}
    with pytest.raises(BadInput, match="this is audio/wav, and image/\\* is wanted"):
        run_node(score, {"image": stored(files, b"RIFF", "audio/wav")}, files=files)
    with pytest.raises(BadInput, match="cannot be read"):
        run_node(score, {"image": stored(files, b"RIFF", "image/png")}, files=files)


def test_a_list_of_pictures_holds_pictures_only() -> None:
    files: dict[str, bytes] = {}
    picture = stored(files, encode_png(plain("red")), "image/PNG")
    sound = stored(files, b"RIFF", "audio/wav")
    with pytest.raises(BadInput) as caught:
        parse_inputs(grid.spec, {"images": [picture, sound]})  # type: ignore[attr-defined]  # put there by @node
    assert str(caught.value) == "/inputs/images: item 1 is audio/wav, and image/* is wanted"
    assert run_node(grid, {"images": [picture, picture]}, files=files)["image"].media_type == "image/png"
