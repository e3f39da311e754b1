"""Handles of an attempt: objects that stay in memory, made only where somebody must run for them.

On the board stands a `HandleRef` in a handle's place. A maker that ran leaves its objects here. A maker whose result
the cache knows is put off: its values are known, its objects are made when a consumer must run; if none must, it has
not run at all, and its end says `reused`. That end is held back until it is certain.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from spindle_common.values import Outcome
from spindle_worker.reuse.keys import HandleRef

Objects = Mapping[str, Any]
Make = Callable[[], Awaitable[Objects]]


class Handles:
    """One attempt's; `nodes` as in the task's body, in an order in which they can run."""

    def __init__(self, nodes: Mapping[str, Mapping[str, Any]]) -> None:
        self._nodes = nodes
        self._made: dict[str, Objects] = {}
        self._makers: dict[str, Make] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._unsaid: dict[str, Outcome] = {}

    @property
    def unsaid(self) -> Collection[str]:
        """Makers whose end is held back."""
        return self._unsaid.keys()

    def refs(self, id_: str, ports: Collection[str], key: str | None) -> dict[str, HandleRef]:
        """What stands on the board for a maker's handles."""
        return {port: HandleRef(id_, port, key) for port in ports}

    def made(self, id_: str, objects: Objects) -> None:
        """Keep what a maker made."""
        if objects:
            self._made[id_] = objects
        self._unsaid.pop(id_, None)

    def put_off(self, id_: str, outcome: Outcome, make: Make) -> None:
        """Make these only when asked for; `outcome` is the maker's end if nobody asks."""
        self._makers[id_], self._unsaid[id_] = make, outcome
        self._locks[id_] = asyncio.Lock()

    def said(self, ended: Callable[[str], bool]) -> dict[str, Outcome]:
        """Ends of makers for which nobody can ask any more, in their order; `ended` tells of other nodes."""
        found: list[tuple[str, Outcome]] = []
        for id_ in [id_ for id_ in reversed([*self._nodes]) if id_ in self._unsaid]:
            users = [user for user, node in self._nodes.items() if id_ in node.get("needs", ())]
            if all(ended(user) and user not in self._unsaid for user in users):
                found.append((id_, self._unsaid.pop(id_)))
        return dict(reversed(found))

    async def given(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Put objects in the place of their refs, making those that were put off. Raises what their makers raise."""
        if not self._made and not self._makers:
            return dict(inputs)
        asked: set[str] = set()
        _each(inputs, lambda ref: asked.add(ref.id))
        for id_ in [id_ for id_ in self._nodes if id_ in asked and id_ not in self._made]:
            async with self._locks[id_]:
                if id_ not in self._made:
                    self._made[id_] = await self._makers[id_]()
        found: dict[str, Any] = _each(inputs, lambda ref: self._made[ref.id][ref.port])
        return found


def _each(value: Any, use: Callable[[HandleRef], Any]) -> Any:
    if isinstance(value, HandleRef):
        return use(value)
    if isinstance(value, Mapping):
        return {name: _each(each, use) for name, each in value.items()}
    if isinstance(value, list):
        return [_each(each, use) for each in value]
    return value
