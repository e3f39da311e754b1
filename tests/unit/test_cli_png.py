"""Text in PNG files, as other programs write it and as nobody should."""

import contextlib
import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from spindle_control import png
from spindle_control.png import BadPng, text_of


def picture(**chunks: tuple[str, bool]) -> bytes:
    info = PngInfo()
    for keyword, (text, compressed) in chunks.items():
        info.add_itxt(keyword, text, zip=compressed)
    out = io.BytesIO()
    Image.new("RGB", (3, 2)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", zlib.crc32(kind + data))


def file_of(*chunks: bytes) -> bytes:
    return png.SIGNATURE + b"".join(chunks) + chunk(b"IEND", b"")


@pytest.mark.parametrize("compressed", [False, True])
def test_text_written_by_pillow_is_read(compressed: bool) -> None:
    assert text_of(picture(other=("no", False), spindle=("größe ✓", compressed)), "spindle") == "größe ✓"


def test_older_kinds_of_text_are_read() -> None:
    assert text_of(file_of(chunk(b"tEXt", b"spindle\0plain \xe4")), "spindle") == "plain ä"
    assert text_of(file_of(chunk(b"zTXt", b"spindle\0\0" + zlib.compress(b"packed"))), "spindle") == "packed"


def test_a_picture_without_the_text_has_none() -> None:
    assert text_of(picture(other=("no", False)), "spindle") is None


def test_text_after_the_end_is_not_read() -> None:
    assert text_of(file_of() + chunk(b"tEXt", b"spindle\0late"), "spindle") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GIF89a", "no PNG"),
        (png.SIGNATURE + b"\0\0", "too early"),
        (png.SIGNATURE + struct.pack(">I4s", 4_000_000_000, b"iTXt") + b"x" * 20, "too early"),
        (file_of(chunk(b"tEXt", b"spindle\0abc")[:-1] + b"\xff"), "checksum"),
        (file_of(chunk(b"zTXt", b"spindle\0\0nonsense")), "does not decompress"),
        (file_of(chunk(b"iTXt", b"spindle\0\0\0\0\0\xff\xfe")), "not UTF-8"),
    ],
)
def test_damaged_files_are_refused(content: bytes, message: str) -> None:
    with pytest.raises(BadPng, match=message):
        text_of(content, "spindle")


def test_a_small_chunk_that_grows_too_large_is_refused() -> None:
    bomb = zlib.compress(b"\0" * (png.LARGEST_TEXT + 1))
    with pytest.raises(BadPng, match="larger than"):
        text_of(file_of(chunk(b"zTXt", b"spindle\0\0" + bomb)), "spindle")


@given(st.binary(max_size=200))
def test_nothing_else_than_bad_png_is_raised(tail: bytes) -> None:
    with contextlib.suppress(BadPng):
        text_of(png.SIGNATURE + tail, "spindle")


@given(st.lists(st.tuples(st.sampled_from([b"iTXt", b"zTXt", b"tEXt"]), st.binary(max_size=60))))
def test_well_formed_chunks_of_anything_are_read_or_refused(chunks: list[tuple[bytes, bytes]]) -> None:
    with contextlib.suppress(BadPng):
        text_of(file_of(*(chunk(kind, b"spindle\0" + data) for kind, data in chunks)), "spindle")
