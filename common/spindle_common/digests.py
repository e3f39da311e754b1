"""Canonical JSON and the digests made of it, so that the same value always has the same name.

The bytes follow RFC 8785 (JCS): no white space, keys sorted by their UTF-16 code units, numbers as ECMAScript prints
them. One thing differs: an `int` is written with all its digits, also beyond 2**53, so that two seeds that differ
never share a digest.
"""

import hashlib
import json
import math
import re
from typing import Any

_FLOATS = re.compile(r"\.[0-9]"), re.compile(r"e[+-][0-9]")
_encode_string = json.encoder.encode_basestring


def canonical(value: Any) -> bytes:
    """Return the canonical JSON of a value.

    Raises:
        ValueError: the value is no JSON: NaN, an infinity, a lone surrogate, an object of Python.

    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        # The standard encoder writes what RFC 8785 wants, ten times faster than this file does, but for floats and
        # for the order of keys beyond the basic plane; text that looks like either only costs time.
        if _may_differ(text):
            text = _write(value)
        return text.encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(f"this is no JSON value: {error}") from None


def digest(value: Any) -> str:
    """Name a JSON value by the SHA-256 of its canonical form: `sha256:<hex>`."""
    return digest_of(canonical(value))


def digest_of(data: bytes) -> str:
    """Name bytes by their SHA-256: `sha256:<hex>`."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _may_differ(text: str) -> bool:
    return any(pattern.search(text) for pattern in _FLOATS) or (not text.isascii() and max(text) > "\ud7ff")


def _write(value: Any) -> str:
    if isinstance(value, dict):
        keys = sorted(value, key=_utf16)
        return "{" + ",".join(f"{_encode_string(key)}:{_write(value[key])}" for key in keys) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_write, value)) + "]"
    if isinstance(value, float):
        return _number(value)
    return json.dumps(value, ensure_ascii=False)


def _utf16(key: Any) -> bytes:
    if not isinstance(key, str):
        raise TypeError("keys must be text")
    return key.encode("utf-16-be")


def _number(value: float) -> str:
    """Print a double as ECMAScript's Number::toString does (ECMA-262, 6.1.6.1.20)."""
    if not math.isfinite(value):
        raise ValueError("JSON has no NaN and no infinities")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    digits, point = _shortest(abs(value))
    count = len(digits)
    if count <= point <= 21:
        text = digits + "0" * (point - count)
    elif 0 < point <= 21:
        text = digits[:point] + "." + digits[point:]
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        fraction = "." + digits[1:] if count > 1 else ""
        text = f"{digits[0]}{fraction}e{point - 1:+d}"
    return sign + text


def _shortest(value: float) -> tuple[str, int]:
    """Return the shortest digits that read back as `value`, and where its decimal point stands among them."""
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or 0)
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    return digits.rstrip("0"), point
