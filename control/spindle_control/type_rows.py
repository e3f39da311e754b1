"""Node types in the database: the first description of each `type@version` counts, its words apart."""

import time
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from spindle_control.rows import Json
from spindle_control.tables import node_types

_ANNOTATIONS = frozenset({"title", "description", "examples", "$comment"})


def save_types(connection: sa.Connection, types: Iterable[Json]) -> list[str]:
    """Keep the first description seen of each `type@version`; return those refused because their ports differ."""
    wanted = {each["type"]: each for each in types}
    query = sa.select(node_types.c.type, node_types.c.description).where(node_types.c.type.in_(wanted))
    known = {each.type: each.description for each in connection.execute(query)}
    new = [
        {"type": name, "first_seen": time.time_ns() // 1_000_000, "description": description}
        for name, description in wanted.items()
        if name not in known
    ]
    if new:
        connection.execute(sa.insert(node_types), new)
    return sorted(name for name, before in known.items() if _meaning(before) != _meaning(wanted[name]))


def _meaning(description: Json) -> Json:
    """Return what a node type's callers depend on: its ports without the words that explain them."""
    ports = {side: _without_words(description.get(side) or {}, names=True) for side in ("inputs", "outputs")}
    return {**ports, "open_inputs": description.get("open_inputs")}


def _without_words(value: Any, *, names: bool = False) -> Any:
    """Drop annotations of JSON Schemas; `names` tells that this object's keys are names of ports or properties."""
    if isinstance(value, list):
        return [_without_words(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _without_words(each, names=key in {"properties", "$defs"} and not names)
        for key, each in value.items()
        if names or key not in _ANNOTATIONS
    }
