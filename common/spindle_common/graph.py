"""A plan as LangGraph: one superstep in which everything starts at once and awaits just what it needs.

LangGraph runs in supersteps, so plain edges would make the children of a fast node wait for its slow sibling
(measured: a critical path of 1.85 s took 3.27 s with edges, 1.87 s this way). Each unit is a node named by its path;
its outcomes are futures on a board. Control's units are tasks, which its caller dispatches; a worker's units are
nodes, which its caller runs. No saver, no `interrupt()`, no `max_concurrency`: the ledger is the record, and a node's
failure is an outcome, not an exception. Built graphs hold no run's data, so they are cached and shared.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from spindle_common.values import ENDED, Outcome

if TYPE_CHECKING:
    from langgraph.pregel import Pregel

Call = Callable[[str], Awaitable[None]]


class Unit(NamedTuple):
    """A node of the LangGraph: what it waits for and what it decides, both as paths."""

    name: str
    needs: tuple[str, ...]
    gives: tuple[str, ...]


class Board:
    """Outcomes of one run, or one task, by path; each can be awaited, and the first to be put counts."""

    def __init__(self, known: Mapping[str, Outcome] | None = None) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self._awaited: dict[str, asyncio.Future[None]] = {}
        self.put(known or {})

    def put(self, outcomes: Mapping[str, Outcome]) -> None:
        """Record the outcomes that are ends; later ones of the same path change nothing."""
        for path, outcome in outcomes.items():
            if path in self.outcomes or outcome["status"] not in ENDED:
                continue
            self.outcomes[path] = outcome
            if future := self._awaited.pop(path, None):
                future.set_result(None)

    def knows(self, paths: Iterable[str]) -> bool:
        """Whether all of these have ended."""
        return all(path in self.outcomes for path in paths)

    async def wait(self, paths: Iterable[str]) -> None:
        """Return once all of these have ended."""
        for path in paths:
            if path not in self.outcomes:
                future = self._awaited.setdefault(path, asyncio.get_running_loop().create_future())
                await asyncio.shield(future)


class Walk(NamedTuple):
    """What LangGraph carries to every node: no state, just where outcomes stand and who decides a unit."""

    board: Board
    call: Call

    async def decide(self, unit: Unit) -> None:
        """Wait for what the unit needs, then have it decided, unless it was."""
        await self.board.wait(unit.needs)
        if not self.board.knows(unit.gives):
            await self.call(unit.name)


class Built:
    """Units, compiled when they are first walked; one alone has nothing to order and needs no graph (1 ms saved)."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._units = tuple(units)
        self._graph: Pregel[Any, Any, Any, Any] | None = None

    async def prepare(self) -> None:
        """Compile what more than one unit needs, unless that was done."""
        if self._graph is None and len(self._units) > 1:
            self._graph = await asyncio.to_thread(_compile, self._units)

    async def walk(self, walk: Walk) -> None:
        """Run every unit."""
        await self.prepare()
        if self._graph is None:
            await walk.decide(self._units[0])
            return
        await self._graph.ainvoke(walk, {"callbacks": []})


def build(units: Sequence[Unit]) -> Built:
    """Put units together for one superstep."""
    return Built(units)


async def walk(built: Built, board: Board, call: Call) -> None:
    """Run every unit that has something undecided; returns when the board knows all. `call(name)` decides a unit."""
    await built.walk(Walk(board, call))


def _compile(units: Sequence[Unit]) -> "Pregel[Any, Any, Any, Any]":
    """Runs in a thread: its first import takes seconds."""
    from spindle_common.superstep import superstep

    return superstep(units)
