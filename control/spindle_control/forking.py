"""Runs that repeat another: what is different is read and accepted, then as much as possible is taken over.

    wish -> document (as it was, patched, or a new one) -> accept -> inputs -> share -> are the bytes there?
         -> what names lost bytes runs again -> share -> the results that the new run begins with

A retry is a fork in which nothing is different.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from spindle_common.contracts import Mistake
from spindle_common.problems import InvalidInputs, InvalidRequest, mistake
from spindle_common.queue import compact
from spindle_common.values import Outcome
from spindle_control.compiler import bind_inputs
from spindle_control.garbage import digest_pattern
from spindle_control.library import Chosen, Library
from spindle_control.merging import merge
from spindle_control.paths import Nodes, is_path
from spindle_control.reuse import After, Before, Shares, share
from spindle_control.rows import Json, RunRow

_MEMBERS = frozenset({"from", "workflow", "patch", "inputs", "priority"})
_MOST_NAMED = 1000
_HEADS_AT_ONCE = 32
Exists = Callable[[str], Awaitable[bool]]


@dataclass(frozen=True)
class Repeat:
    """A run that is about to repeat another one: what it runs, and the results with which it begins."""

    chosen: Chosen
    inputs: Json
    priority: int
    shares: Shares
    known: Json
    reason: str


class Forking:
    """Makes repeats of ended runs. `exists` tells whether bytes are still kept."""

    def __init__(self, library: Library, exists: Exists) -> None:
        self._library, self._exists = library, exists

    async def repeat(self, row: RunRow, wish: Json, reason: str) -> Repeat:
        """Find out what a run that repeats `row`, different as the wish says, runs and takes over.

        Raises:
            InvalidRequest: the wish cannot be read, or names nodes that there are not.
            InvalidWorkflow, InvalidInputs: with every mistake.
            Unavailable.

        """
        _check(wish)
        document = wish["workflow"] if "workflow" in wish else merge(row.workflow, wish.get("patch", {}))
        chosen = await self._library.accept(row.tenant, document)
        checked = chosen.accepted.checked
        inputs = {name: value for name, value in row.inputs.items() if name in checked.inputs} | wish.get("inputs", {})
        if chosen.accepted.digest != row.workflow_digest or "inputs" in wish:
            inputs = bind_inputs(checked, inputs)
        old = Nodes(row.workflow, await self._library.called(row.tenant, row.workflow))
        new = Nodes(chosen.document, await self._library.called(row.tenant, chosen.document))
        named = frozenset(wish.get("from", ()))
        _check_named(wish.get("from", ()), new)
        after = After(new, checked.level, _changed(row.inputs, inputs), named)
        shares, known = await self._shared(row, old, after)
        return Repeat(chosen, inputs, wish.get("priority", row.priority), shares, known, reason)

    async def _shared(self, row: RunRow, old: Nodes, after: After) -> tuple[Shares, Json]:
        """Share; what names bytes that are gone counts as if it had never completed."""
        outcomes: Mapping[str, Outcome] = row.nodes or {}
        while True:
            shares = await asyncio.to_thread(share, Before(old, outcomes, row.seeds), after)
            known = {path: _kept(outcomes[path]) for path in shares.reuse}
            lost = await self._lost(known)
            if not lost:
                return shares, known
            outcomes = {path: outcome for path, outcome in outcomes.items() if path not in lost}

    async def _lost(self, known: Mapping[str, Json]) -> set[str]:
        """Return the paths whose results name bytes that are not there."""
        naming: dict[str, list[str]] = {}
        for path, outcome in known.items():
            for found in set(digest_pattern.findall(compact(outcome["outputs"]))):
                naming.setdefault(f"sha256:{found}", []).append(path)
        digests = list(naming)
        lost: set[str] = set()
        for start in range(0, len(digests), _HEADS_AT_ONCE):
            some = digests[start : start + _HEADS_AT_ONCE]
            there = await asyncio.gather(*map(self._exists, some))
            lost |= {path for digest, kept in zip(some, there, strict=True) if not kept for path in naming[digest]}
        return lost


def _kept(outcome: Outcome) -> Json:
    return {"status": "completed", "outputs": outcome.get("outputs", {}), "reused": True}


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> frozenset[str]:
    names = {*old, *new}
    missing = object()
    return frozenset(n for n in names if _text(old.get(n, missing)) != _text(new.get(n, missing)))


def _text(value: Any) -> str | None:
    return None if type(value) is object else compact(value)


# What is wished for ------------------------------------------------------------------------------------------------


def _check(wish: Json) -> None:
    wrong = [mistake(f"/{key}", "unknown-member", f"`{key}` is not known here") for key in wish.keys() - _MEMBERS]
    if "workflow" in wish and "patch" in wish:
        wrong.append(mistake("/patch", "two-workflows", "there is a `workflow` already", "leave one of them out"))
    if not isinstance(wish.get("patch", {}), dict):
        wrong.append(mistake("/patch", "wrong-type", "`patch` must be an object", "see RFC 7396"))
    names = wish.get("from", [])
    if not isinstance(names, list) or len(names) > _MOST_NAMED or not all(isinstance(name, str) for name in names):
        wrong.append(mistake("/from", "wrong-type", f"`from` must be a list of at most {_MOST_NAMED} paths of nodes"))
    priority = wish.get("priority", 0)
    if not isinstance(priority, int) or isinstance(priority, bool) or not -100 <= priority <= 100:
        wrong.append(mistake("/priority", "out-of-range", "`priority` must be a whole number from -100 to 100"))
    if wrong:
        raise InvalidRequest("the fork is not valid", errors=wrong)
    if not isinstance(wish.get("inputs", {}), dict):
        raise InvalidInputs(errors=[mistake("/inputs", "wrong-type", "`inputs` must be an object")])


def _check_named(names: list[str], nodes: Nodes) -> None:
    wrong = [found for at, name in enumerate(names) if (found := _misnamed(f"/from/{at}", name, nodes))]
    if wrong:
        raise InvalidRequest("the fork names nodes that there are not", errors=wrong)


def _misnamed(pointer: str, name: str, nodes: Nodes) -> Mistake | None:
    why = nodes.misplaced(name) if is_path(name) else f"{name[:100]!r} is no path"
    return (
        None
        if why is None
        else mistake(pointer, "unknown-node", why, "name nodes by their paths: image, vars[3].image")
    )
