"""When two JSON values are the same: 1 and 1.0 are, objects are whatever the order of their keys; true is not 1."""

import json
from typing import Any


def sameness(value: Any) -> str:
    """Return a text that is the same for values that are the same."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
