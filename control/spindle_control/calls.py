"""What a document calls: the stored workflows that its `flow.call` nodes name, gathered before it is checked.

    gather(stored, tenant, document) -> the document with every "name" turned to "name@newest", and the documents of
    all versions that it calls, directly or through others, by "name@version"

A reference to nothing stays as it is: the check tells of it. Documents are not checked yet and may be anything.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from spindle_common.problems import InvalidWorkflow, mistake, pointer
from spindle_control.rows import Json
from spindle_control.stored import StoredWorkflows

CALL = "flow.call@1"
REFERENCE = re.compile(r"([a-z0-9][a-z0-9_-]{0,63})(?:@([1-9][0-9]{0,8}))?")
MOST_CALLED = 64
MOST_BYTES = 8 * 1024 * 1024
MOST_DEPTH = 16
Place = tuple[str | int, ...]
Which = tuple[str, int]


@dataclass(frozen=True)
class Gathered:
    """A document whose calls are pinned to versions, and the documents that it calls, by "name@version"."""

    document: Any
    library: Mapping[str, Json]


def reference_of(text: object) -> tuple[str, int | None] | None:
    """Read "name@3", or "name" for the newest; None where it is neither."""
    found = REFERENCE.fullmatch(text) if isinstance(text, str) else None
    return (found[1], int(found[2]) if found[2] else None) if found else None


def calls_in(document: object) -> Iterator[tuple[Place, str, int | None]]:
    """Yield place, name and version (None: the newest) of every readable `workflow_ref`, in bodies too."""
    waiting: list[tuple[Place, object]] = [((), document)]
    while waiting:
        place, body = waiting.pop()
        nodes = body.get("nodes") if isinstance(body, dict) else None
        for id_, node in nodes.items() if isinstance(nodes, dict) else ():
            if not isinstance(node, dict):
                continue
            if node.get("type") == CALL and (called := reference_of(node.get("workflow_ref"))):
                yield (*place, "nodes", id_, "workflow_ref"), *called
            if "body" in node:
                waiting.append(((*place, "nodes", id_, "body"), node["body"]))


async def gather(stored: StoredWorkflows, tenant: str, document: object) -> Gathered:
    """Pin what a document calls, and fetch it. Raises InvalidWorkflow where that is too much, Unavailable."""
    calls = list(calls_in(document))
    if not calls:
        return Gathered(document, {})
    if len({(name, version) for _, name, version in calls}) > MOST_CALLED:
        raise _too_much(calls[0][0], f"more than {MOST_CALLED} stored workflows are called")
    if loose := {name for _, name, version in calls if version is None}:
        document = _pinned(document, calls, await stored.newest(tenant, loose))
    library: dict[Which, Json] = {}
    size, wave = 0, _called_by(document)
    for _ in range(MOST_DEPTH):
        wave -= library.keys()
        if not wave:
            break
        if len(wave) + len(library) > MOST_CALLED:
            raise _too_much(calls[0][0], f"more than {MOST_CALLED} stored workflows are called")
        size += sum((await stored.sizes(tenant, wave)).values())
        if size > MOST_BYTES:
            raise _too_much(calls[0][0], f"the stored workflows that are called have more than {MOST_BYTES} bytes")
        found = await stored.documents(tenant, wave)
        library |= found
        wave = {which for called in found.values() for which in _called_by(called)}
    return Gathered(document, {f"{name}@{version}": called for (name, version), called in library.items()})


def _called_by(document: object) -> set[Which]:
    return {(name, version) for _, name, version in calls_in(document) if version is not None}


def _pinned(document: Any, calls: list[tuple[Place, str, int | None]], newest: Mapping[str, int]) -> Any:
    pinned = copy.deepcopy(document)
    for place, name, version in calls:
        if version is None and name in newest:
            node = pinned
            for part in place[:-1]:
                node = node[part]
            node["workflow_ref"] = f"{name}@{newest[name]}"
    return pinned


def _too_much(place: Place, detail: str) -> InvalidWorkflow:
    wrong = mistake(pointer(*place), "too-many-calls", detail, "put some of them together")
    return InvalidWorkflow("the workflow calls too much", errors=[wrong])
