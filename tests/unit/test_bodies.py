"""JSON bodies are read strictly, and everything wrong is told with its place."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spindle_common.problems import InvalidRequest
from spindle_control.bodies import MAX_DEPTH, MAX_MISTAKES, parse_json


def refused(raw: bytes) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as caught:
        parse_json(raw)
    assert caught.value.status == 400
    json.dumps(caught.value.problem(), ensure_ascii=False).encode()  # can be sent as it is
    return [(each.pointer, each.code) for each in caught.value.errors]


def nested(depth: int) -> bytes:
    return b"[" * depth + b"1" + b"]" * depth


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", [("", "empty-body")]),
        (b" \n", [("", "empty-body")]),
        (b'{"a": }', [("", "json-syntax")]),
        (b"{'a': 1}", [("", "json-syntax")]),
        (b'{"a": 1} x', [("", "json-syntax")]),
        (b'"a\nb"', [("", "json-syntax")]),
        (b"\xef\xbb\xbf{}", [("", "json-syntax")]),
        ('{"a": 1}'.encode("utf-16"), [("", "not-utf-8")]),
        (b'"\xff"', [("", "not-utf-8")]),
        (b'"\xed\xa0\x80"', [("", "not-utf-8")]),
        (b'{"a": [1, NaN]}', [("/a/1", "not-a-number")]),
        (b'{"a": Infinity, "b": -Infinity}', [("/a", "not-a-number"), ("/b", "not-a-number")]),
        (b'{"a": 1e999}', [("/a", "number-range")]),
        (b"[-1e999]", [("/0", "number-range")]),
        (b"[" + b"9" * 5000 + b"]", [("/0", "number-range")]),
        (b"[18446744073709551617]", [("/0", "number-range")]),
        (b'{"a": {"b": 1, "b": 2}}', [("/a/b", "duplicate-key")]),
        (b'{"a/~": 1, "a/~": NaN}', [("/a~1~0", "duplicate-key"), ("/a~1~0", "not-a-number")]),
        (rb'{"a": "\ud800"}', [("/a", "lone-surrogate")]),
        (rb'{"\udfff": 1}', [("/?", "lone-surrogate")]),
        (nested(MAX_DEPTH + 1), [("/0" * MAX_DEPTH, "too-deep")]),
        (nested(100_000), [("", "too-deep")]),
        (b'{"a":' * 100_000, [("", "too-deep")]),
    ],
)
def test_what_json_forbids_is_refused_with_its_place(raw: bytes, expected: list[tuple[str, str]]) -> None:
    assert refused(raw) == expected


def test_mistakes_are_counted_up_to_a_bound() -> None:
    assert len(refused(b"[" + b",".join([b"NaN"] * 500) + b"]")) == MAX_MISTAKES


def test_what_json_allows_is_read() -> None:
    assert parse_json(nested(MAX_DEPTH)) is not None
    assert parse_json(rb'{"a": "\ud83d\ude00 \u0000", "b": [18446744073709551615, -1.5e3, null]}') == {
        "a": "\U0001f600 \0",
        "b": [2**64 - 1, -1500.0, None],
    }


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@given(values, st.booleans())
def test_every_json_value_survives(value: Any, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(
    st.binary(max_size=200)
    | st.text(alphabet='[]{}",:0123456789.eE+-\\utrfalsN\ud800', max_size=60).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    )
)
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    try:
        value = parse_json(raw)
    except InvalidRequest:
        assert refused(raw)
    else:
        assert not (isinstance(value, float) and not math.isfinite(value))
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
