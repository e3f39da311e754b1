"""Nodes on finished pictures: resize, grid, save; strange uploads; PNGs whose bytes follow from their pixels."""

import contextlib
import io
import json
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from spindle_common.problems import BadInput
from spindle_worker import pictures
from spindle_worker.nodes.lineage import settings_of
from spindle_worker.nodes.picture import grid, resize
from spindle_worker.nodes.save import save
from spindle_worker.pictures import encode_png, open_picture
from spindle_worker.testing import Reports, context_for, run_node, stored


def png(width: int = 8, height: int = 6, colour: Any = "red", mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (width, height), colour).save(out, options.pop("format", "PNG"), **options)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def run_on(function: Any, data: bytes, **inputs: Any) -> Image.Image:
    files: dict[str, bytes] = {}
    image = stored(files, data, "image/png")
    return opened(files[run_node(function, {"image": image, **inputs}, files=files)["image"].digest])


@pytest.mark.parametrize(
    ("inputs", "size"),
    [
        ({"scale": 2}, (16, 12)),
        ({"scale": 0.01}, (1, 1)),
        ({"width": 4}, (4, 3)),
        ({"height": 3}, (4, 3)),
        ({"width": 5, "height": 7, "method": "nearest"}, (5, 7)),
    ],
)
def test_resize(inputs: dict[str, Any], size: tuple[int, int]) -> None:
    assert run_on(resize, png(), **inputs).size == size


@pytest.mark.parametrize(
    "inputs",
    [{}, {"scale": 2, "width": 4}, {"scale": 0}, {"scale": 17}, {"width": 0}, {"width": 1, "method": "magic"}],
)
def test_resize_refuses(inputs: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        run_on(resize, png(), **inputs)


def test_resize_refuses_too_many_pixels() -> None:
    with pytest.raises(BadInput, match="more than"):
        run_on(resize, png(1000, 1000), scale=16)


def test_resize_keeps_transparency() -> None:
    assert run_on(resize, png(mode="RGBA", colour=(255, 0, 0, 128)), scale=2).getpixel((3, 3)) == (255, 0, 0, 128)


def laid_out(colours: list[str], **inputs: Any) -> Image.Image:
    files: dict[str, bytes] = {}
    images = [stored(files, png(4, 2, colour), "image/png") for colour in colours]
    return opened(files[run_node(grid, {"images": images, **inputs}, files=files)["image"].digest])


def test_grid() -> None:
    sheet = laid_out(["red", "lime", "blue"], columns=2, gap=1, background="#000000")
    assert sheet.size == (9, 5)
    assert [sheet.getpixel(at) for at in ((0, 0), (8, 0), (0, 4), (8, 4), (4, 0))] == [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (0, 0, 0),
        (0, 0, 0),
    ]
    assert laid_out(["red"] * 5).size == (12, 4)
    assert laid_out(["red"], columns=9).size == (4, 2)


@pytest.mark.parametrize("inputs", [{"columns": 0}, {"gap": -1}, {"background": "red"}])
def test_grid_refuses(inputs: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        laid_out(["red"], **inputs)
    with pytest.raises(BadInput):
        laid_out([])


def test_bytes_follow_from_pixels_alone() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "hello")
    with_text = png(pnginfo=info, dpi=(300, 300), compress_level=9)
    assert with_text != png()
    assert encode_png(open_picture(with_text)) == encode_png(open_picture(png()))
    chunks = chunk_names(encode_png(open_picture(with_text)))
    assert set(chunks) == {"IHDR", "IDAT", "IEND"}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_formats_that_are_read(kind: str) -> None:
    assert open_picture(png(format=kind)).size == (8, 6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_modes_become_rgb_or_rgba(mode: str) -> None:
    assert open_picture(png(mode=mode, colour=0)).mode in {"RGB", "RGBA"}


def test_pictures_are_turned_upright() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    assert open_picture(png(format="JPEG", exif=turned)).size == (6, 8)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a picture",
        png()[:40],
        png()[:-30],
        bomb(100_000, 100_000),
        bomb(9000, 9000),
        bomb(30_000, 3_000),
        bomb(0, 0),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        png(format="TIFF"),
    ],
)
def test_what_is_no_picture_is_bad_input(data: bytes) -> None:
    with pytest.raises(BadInput, match="picture"):
        open_picture(data)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_pictures_are_read_or_bad_input(data: st.DataObject) -> None:
    good = bytearray(data.draw(st.sampled_from([png(), png(format="JPEG"), png(format="WEBP"), png(format="GIF")])))
    for _ in range(data.draw(st.integers(1, 5))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadInput):
        assert open_picture(bytes(good)).mode in {"RGB", "RGBA"}


def test_limit_leaves_room_for_large_pictures() -> None:
    assert pictures.MAX_PIXELS >= 8192 * 8192


WORKFLOW = {
    "schema": "spindle.workflow/v1",
    "inputs": {"subject": {"type": "string"}},
    "nodes": {
        "image": {
            "type": "image.generate@1",
            "inputs": {
                "prompt": {"$from": "inputs.subject"},
                "negative_prompt": "blurred",
                "seed": 7,
                "steps": 12,
                "guidance": 2.0,
                "width": 128,
                "height": 128,
                "model": {"model": "tiny", "digest": "sha256:" + "a" * 64},
            },
        },
        "big": {"type": "image.resize@1", "inputs": {"image": {"$from": "image.image"}, "scale": 2}},
        "file": {"type": "image.save@1", "inputs": {"image": {"$first": [{"$from": "big.image"}]}}},
    },
}
PROVENANCE = {
    "run": "r1",
    "seeds_from": "r0",
    "workflow": WORKFLOW,
    "inputs": {"subject": "ein größer Stern ☆"},
    "versions": {"spindle": "0.1.0"},
}


def saved(provenance: dict[str, Any] | None = None, **inputs: Any) -> tuple[bytes, str]:
    files: dict[str, bytes] = {}
    reports = Reports(provenance=PROVENANCE if provenance is None else provenance)
    image = stored(files, png(), "image/png")
    context = context_for("file", files=files, reports=reports)
    out = run_node(save, {"image": image, **inputs}, context=context)["image"]
    return files[out.digest], out.media_type


def test_png_says_how_to_make_it_again() -> None:
    data, media_type = saved()
    assert media_type == "image/png"
    text = opened(data).text  # type: ignore[attr-defined]
    body = json.loads(text["spindle"])
    assert body == {
        "schema": "spindle.provenance/v1",
        "workflow": WORKFLOW,
        "inputs": PROVENANCE["inputs"],
        "run": "r1",
        "seeds_from": "r0",
        "versions": PROVENANCE["versions"],
        "models": {"tiny": "sha256:" + "a" * 64},
    }
    assert text["parameters"] == (
        "ein größer Stern ☆\nNegative prompt: blurred\n"
        "Steps: 12, CFG scale: 2.0, Seed: 7, Model: tiny, Size: 128x128, Model hash: aaaaaaaaaa"
    )
    assert chunk_names(data).count("iTXt") == 2


def test_pixels_of_a_saved_png_are_the_same() -> None:
    assert opened(saved()[0]).convert("RGB").tobytes() == opened(png()).tobytes()


def test_metadata_can_be_left_out() -> None:
    assert set(chunk_names(saved(metadata=False)[0])) == {"IHDR", "IDAT", "IEND"}


def test_ports_tell_what_the_workflow_does_not() -> None:
    text = opened(saved({}, prompt="a dog", seed=3)[0]).text  # type: ignore[attr-defined]
    assert text["parameters"] == "a dog\nSeed: 3"
    assert json.loads(text["spindle"])["workflow"] == {}


def test_no_parameters_where_no_prompt_is_known() -> None:
    text = opened(saved({})[0]).text  # type: ignore[attr-defined]
    assert set(text) == {"spindle"}


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_other_formats(kind: str) -> None:
    data, media_type = saved(format=kind, quality=50)
    assert media_type == f"image/{kind}"
    assert opened(data).format == kind.upper()
    assert b"spindle" not in data


def test_jpeg_lays_transparency_over_white() -> None:
    assert run_on(save, png(mode="RGBA", colour=(0, 0, 0, 0)), format="jpeg").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("inputs", [{"format": "gif"}, {"quality": 0}, {"quality": 101}, {"path": "/etc/passwd"}])
def test_save_refuses(inputs: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        saved(**inputs)


def test_lineage_goes_back_through_split_nodes() -> None:
    nodes = {
        "words": {"type": "text.encode@1", "inputs": {"prompt": "a cat", "model": "tiny"}},
        "noise": {"type": "image.sample@1", "inputs": {"conditioning": {"$from": "words.conditioning"}, "seed": 4}},
        "made": {"type": "image.decode@1", "inputs": {"latents": {"$from": "noise.latents"}}},
        "file": {"type": "image.save@1", "inputs": {"image": {"$from": "made.image"}}},
    }
    assert settings_of({"nodes": nodes}, {}, "file") == {"prompt": "a cat", "model": "tiny", "seed": 4}


@pytest.mark.parametrize(
    "nodes",
    [
        {},
        {"file": {}},
        {"file": {"inputs": {"image": {"$from": "file.image"}}}},
        {"file": {"inputs": {"image": {"$first": []}}}},
        {"file": {"inputs": {"image": "x"}}},
        {"file": {"inputs": {"image": {"$from": "inputs.photo"}}}},
    ],
)
def test_lineage_of_what_has_none(nodes: dict[str, Any]) -> None:
    assert settings_of({"nodes": nodes}, {}, "file") == {}


def chunk_names(data: bytes) -> list[str]:
    names, at = [], 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        names.append(data[at + 4 : at + 8].decode())
        at += 12 + length
    return names
