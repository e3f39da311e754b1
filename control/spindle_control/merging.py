"""JSON Merge Patch (RFC 7396): what a document becomes when null takes members away and objects are merged."""

from typing import Any


def merge(target: Any, patch: Any) -> Any:
    """Return the target with the patch applied; neither is changed."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged
