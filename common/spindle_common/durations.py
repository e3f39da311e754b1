"""Lengths of time as documents write them: `"500ms"`, `"60s"`, `"1.5m"`, `"24h"`, `"7d"`."""

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)(ms|s|m|h|d)", re.ASCII)


def parse_duration(text: str) -> float:
    """Return the seconds that `text` says.

    Raises:
        ValueError: `text` is not a number with one of the units ms, s, m, h, d.

    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no length of time; write a number with its unit, such as 500ms, 60s or 24h")
    number, unit = found.groups()
    return float(number) * _SECONDS[unit]
