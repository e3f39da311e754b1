import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spindle_common.digests import canonical, digest
from spindle_common.durations import parse_duration

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("number", "text"),
    [  # RFC 8785, appendix B, and the edges of ECMAScript's Number::toString
        (0.0, "0"),
        (-0.0, "0"),
        (5e-324, "5e-324"),
        (-5e-324, "-5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (9007199254740992.0, "9007199254740992"),
        (295147905179352830000.0, "295147905179352830000"),
        (9.999999999999997e22, "9.999999999999997e+22"),
        (1e23, "1e+23"),
        (1.0000000000000001e23, "1.0000000000000001e+23"),
        (999999999999999700000.0, "999999999999999700000"),
        (1e21, "1e+21"),
        (9.999999999999997e-7, "9.999999999999997e-7"),
        (0.000001, "0.000001"),
        (333333333.33333325, "333333333.33333325"),
        (-0.0000033333333333333333, "-0.0000033333333333333333"),
        (1424953923781206.2, "1424953923781206.2"),
        (4.50, "4.5"),
        (2e-3, "0.002"),
        (1e-27, "1e-27"),
        (100.0, "100"),
    ],
)
def test_numbers_are_printed_as_ecmascript_prints_them(number, text):
    assert canonical(number).decode() == text


def test_the_example_of_rfc_8785():
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": '€$\x0f\nA\'B"\\\\"/',
        "literals": [None, True, False],
    }
    assert canonical(value).decode() == (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


def test_keys_are_sorted_by_utf_16():
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    ordered = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(canonical(dict.fromkeys(keys, 1)))) == ordered


def test_integers_keep_all_their_digits():
    assert digest({"seed": 2**53}) != digest({"seed": 2**53 + 1})
    assert canonical(2**64 - 1) == b"18446744073709551615"


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", {"\udfff": 1}, object(), [{1, 2}]])
def test_what_is_no_json_is_refused(value):
    with pytest.raises(ValueError):
        canonical(value)


def test_nesting_without_end_is_refused():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError):
        canonical(deep)


@given(JSON)
def test_canonical_json_reads_back(value):
    assert json.loads(canonical(value), parse_int=float) == value


@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_the_order_of_keys_is_nothing(value):
    assert digest(value) == digest(dict(reversed(value.items())))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_read_back_exactly(number):
    assert float(canonical(number)) == number


@pytest.mark.parametrize(
    ("text", "seconds"), [("500ms", 0.5), ("60s", 60), ("1.5m", 90), ("24h", 86400), ("7d", 604800), ("0s", 0)]
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "60", "s", "-1s", "1 s", "1e3s", "1.2345s", "60S", "١s", "1s\n", "9999999999s"])
def test_bad_durations(text):
    with pytest.raises(ValueError, match="length of time"):
        parse_duration(text)
