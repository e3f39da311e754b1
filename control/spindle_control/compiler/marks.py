"""Where a port's schema follows another port: each `{"x-type-of": "items/*"}` in it, found once a node type."""

from typing import Any, NamedTuple

from spindle_control.compiler.schemas import subschemas

FOLLOWS = "x-type-of"


class Mark(NamedTuple):
    """What stands here is the type of the node's input `path[0]`, or of the part of it that the rest names."""

    path: tuple[str, ...]


Marks = Mark | dict[str | int, Any]
"""A mark, or what leads to marks: the keys of a schema, and of the lists and objects of schemas in it."""


def marks_in(schema: Any) -> Marks:
    """Find the marks of a schema; an empty dict if there are none."""
    if not isinstance(schema, dict):
        return {}
    if FOLLOWS in schema:
        path = schema[FOLLOWS]
        return Mark(tuple(path.split("/")) if isinstance(path, str) else ("",))
    found: dict[str | int, Any] = {}
    for pointer, part in subschemas(schema):
        inner = marks_in(part)
        if inner:
            _, key, *name = pointer.split("/", 2)
            if name:
                listed = isinstance(schema[key], list)
                at = int(name[0]) if listed else name[0].replace("~1", "/").replace("~0", "~")
                found.setdefault(key, {})[at] = inner
            else:
                found[key] = inner
    return found
