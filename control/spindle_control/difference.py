"""How two versions of a workflow differ: for programs as a JSON Patch (RFC 6902), for people by nodes.

The patch only adds, removes and replaces. Arrays are compared from both ends; what lies between is compared place by
place: linear in the size of the documents, and short for the edits that people make.
"""

from collections.abc import Iterator
from typing import Any

from spindle_common.problems import pointer
from spindle_control.rows import Json

Place = tuple[str | int, ...]


def patch(before: Json, after: Json) -> list[Json]:
    """Return operations that turn `before` into `after`."""
    return list(_changes((), before, after))


def nodes(before: Json, after: Json) -> dict[str, list[str]]:
    """Return which nodes were added, removed and changed, by path (`vars.image` stands in the body of `vars`)."""
    old, new = dict(_flat(before)), dict(_flat(after))
    changed = [path for path in new if path in old and not _same(old[path], new[path])]
    return {
        "added": [path for path in new if path not in old],
        "removed": [path for path in old if path not in new],
        "changed": changed,
    }


def _flat(body: Json, prefix: str = "") -> Iterator[tuple[str, Json]]:
    """Yield every node with its path; of a body that it has only what is not a node."""
    for id_, node in body.get("nodes", {}).items():
        inner = node.get("body")
        if not isinstance(inner, dict):
            yield prefix + id_, node
            continue
        yield prefix + id_, {**node, "body": {key: value for key, value in inner.items() if key != "nodes"}}
        yield from _flat(inner, f"{prefix}{id_}.")


def _changes(place: Place, before: Any, after: Any) -> Iterator[Json]:
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _of_objects(place, before, after)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _of_arrays(place, before, after)
    elif not _same(before, after):
        yield {"op": "replace", "path": pointer(*place), "value": after}


def _of_objects(place: Place, before: Json, after: Json) -> Iterator[Json]:
    for key in before:
        if key not in after:
            yield {"op": "remove", "path": pointer(*place, key)}
    for key, value in after.items():
        if key in before:
            yield from _changes((*place, key), before[key], value)
        else:
            yield {"op": "add", "path": pointer(*place, key), "value": value}


def _of_arrays(place: Place, before: list[Any], after: list[Any]) -> Iterator[Json]:
    shorter = min(len(before), len(after))
    start = next((at for at in range(shorter) if not _same(before[at], after[at])), shorter)
    most = shorter - start
    end = next((at for at in range(most) if not _same(before[-1 - at], after[-1 - at])), most)
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    paired = min(len(old), len(new))
    for at in range(paired):
        yield from _changes((*place, start + at), old[at], new[at])
    for at in reversed(range(paired, len(old))):
        yield {"op": "remove", "path": pointer(*place, start + at)}
    for at in range(paired, len(new)):
        yield {"op": "add", "path": pointer(*place, start + at), "value": new[at]}


def _same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same; unlike Python, `true` is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
