"""How outputs and node types are shown to people."""

from typing import Any

import pytest

from spindle_control.cli.panels import MOST_PARTS, short
from spindle_control.cli.views import _value_kind

PICTURE = {"digest": "sha256:" + "a" * 64, "media_type": "image/png", "size": 2048}
SAID = "image/png, 2.0 KiB, sha256:aaaaaaaaaaaa…"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (PICTURE, SAID),
        ([PICTURE, PICTURE], f"{SAID}\n{SAID}"),
        ([PICTURE, None], f"{SAID}\nnull"),
        ([{"image": PICTURE, "score": 0.5}], f"image: {SAID}\nscore: 0.5"),
        ([PICTURE] * (MOST_PARTS + 5), "\n".join([SAID] * MOST_PARTS) + "\n… and 5 more"),
        ([1, 2], "[1, 2]"),
        ([], "[]"),
        ({"a": 1}, '{"a": 1}'),
        ("x" * 301, "x" * 300 + "…"),
    ],
)
def test_pictures_are_shown_wherever_they_stand(value: Any, text: str) -> None:
    assert short(value) == text


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"x-type-of": "items/*"}, "the type of items/*"),
        ({"type": "array", "items": {"x-type-of": "items/*"}}, "list of the type of items/*"),
        ({"type": "array", "items": {"type": "number"}}, "list of number"),
        ({"type": "array", "items": {}}, "array"),
        ({"anyOf": [{"x-type-of": "then"}, {"x-type-of": "otherwise"}]}, "the type of then or the type of otherwise"),
        ({"enum": ["a", "b"]}, "one of a b"),
    ],
)
def test_types_are_told_in_words(schema: Any, words: str) -> None:
    assert _value_kind(schema) == words
