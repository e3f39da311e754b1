"""A run's walk: each level as a LangGraph whose nodes are tasks, dispatched to workers, and flows, done here.

    frame -> LangGraph -> decide -> task: skipped here, or offered to workers      -> outcome on the frame's board
                                 -> flow: `flows` opens frames inside this one, or waits for an answer

What is decided here is written by one script, which refuses a driver that was replaced. `busy` counts what is under
way in this process; when that is nothing, and tasks are none, only answers are waited for.
"""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from spindle_common.graph import walk
from spindle_common.problems import BadInput, SpindleError, Unavailable
from spindle_common.queue import NodeEnd, Offer, compact, outcome_text
from spindle_common.spill import Spill
from spindle_common.values import Outcome, Scope, Skip, decide, is_reached, references, resolve_outputs
from spindle_control.batches import Batches
from spindle_control.compiler import PlanFlow, PlanLevel
from spindle_control.dispatch import offer, undispatchable
from spindle_control.flows import FLOWS
from spindle_control.frames import Frame, Frames
from spindle_control.graphs import graph_of

if TYPE_CHECKING:
    from spindle_control.drive import Parts

log = logging.getLogger(__name__)
T = TypeVar("T")
_AWAY_SECONDS = 1.0


@dataclass(frozen=True)
class Identity:
    """Whose walk it is; `epoch` is the driver's right to the run, `seeds` the run by whose id seeds are drawn."""

    run: str
    epoch: int
    traceparent: str | None
    seeds: str


@dataclass
class Doings:
    """What goes on in this process: `busy` things, after so many `moves`; `asked` are the paths that ask people."""

    busy: int = 0
    moves: int = 0
    asked: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def doing(self) -> Iterator[None]:
        """Count what is under way."""
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1
            self.moves += 1


class Walking:
    """Walks a run's level, and those inside it."""

    def __init__(self, identity: Identity, level: PlanLevel, inputs: Mapping[str, Any], parts: "Parts") -> None:
        self.identity, self.queue, self.settings = identity, parts.queue, parts.settings
        self.spill = Spill(parts.artifacts)
        self.frames = Frames()
        self.root = self.frames.open("", level, inputs)
        self.doings = Doings()
        self.failed_at_top: Callable[[], None] = lambda: None
        self._instances = len(level.node_task)
        run, epoch = identity.run, identity.epoch
        queue, budget = parts.queue, parts.settings.crash_budget
        self._offers: Batches[Offer] = Batches(lambda offers: queue.dispatch(run, epoch, offers, budget))
        self._ends: Batches[NodeEnd] = Batches(lambda ends: queue.settle(run, epoch, ends))

    async def run(self) -> None:
        """Walk until every node of the run has ended. Raises Fenced."""
        await self._walk(self.root)

    async def close(self) -> None:
        """Stop what is on its way."""
        await self._offers.close()
        await self._ends.close()

    async def patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Repeat a step until what it needs answers."""
        with self.doings.doing():
            while True:
                try:
                    return await work()
                except Unavailable as error:
                    log.warning("waiting: %s", error, extra={"run": self.identity.run})
                    await asyncio.sleep(_AWAY_SECONDS)

    # Levels --------------------------------------------------------------------------------------------------------

    async def _walk(self, frame: Frame) -> None:
        graph = graph_of(frame.level)
        with self.doings.doing():
            await graph.prepare()
        await walk(graph, frame.board, functools.partial(self._decide, frame))

    async def inside(
        self, outer: Frame, flow: PlanFlow, name: str, inputs: Mapping[str, Any], until: str | None = None
    ) -> Outcome:
        """Walk the body of a flow as `name` of the frame around it; returns what came of it."""
        level = flow.body
        if level is None:
            raise BadInput(f"`{flow.kind}` has no body")
        self._count(level)
        frame = self.frames.open(f"{outer.path(name)}.", level, inputs)
        try:
            await self._walk(frame)
            with self.doings.doing():
                return await self._end(frame, until)
        finally:
            self.frames.close(frame)

    def _count(self, level: PlanLevel) -> None:
        self._instances += len(level.node_task)
        if self._instances > self.settings.max_instances:
            raise BadInput(f"the run has come to more than {self.settings.max_instances} nodes")

    async def _end(self, frame: Frame, until: str | None) -> Outcome:
        """How a body ended: by the first failure in it, or with its outputs."""
        failed = first_failure(frame)
        if failed is not None:
            return {"status": "failed", "problem": failed}
        return {"status": "completed", "outputs": await self.outputs(frame, until)}

    async def outputs(self, frame: Frame, until: str | None = None) -> dict[str, Any]:
        """What a level gives, as the ledger keeps it. Raises BadInput, ArtifactNotFound."""
        named = references([frame.level.outputs, [] if until is None else {"$expr": until}])
        scope = await self.whole(frame, {dotted.partition(".")[0] for dotted in named})
        outputs = resolve_outputs(frame.level.outputs, scope)
        if until is not None:
            outputs["reached"] = is_reached(until, scope)
        return await self.kept(outputs)

    async def whole(self, frame: Frame, ids: Iterable[str]) -> Scope:
        """What references see, large values fetched."""
        outcomes = {id_: frame.board.outcomes[id_] for id_ in ids if id_ in frame.board.outcomes}
        inputs = await self.patiently(lambda: self.spill.whole(frame.inputs))
        return Scope(inputs, await self.patiently(lambda: self.spill.fetch(outcomes)))

    async def kept(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values as the ledger keeps them: large ones in the object store."""
        return await self.patiently(lambda: self.spill.store(values))

    # Units ---------------------------------------------------------------------------------------------------------

    async def _decide(self, frame: Frame, name: str) -> None:
        """Decide a unit: a task's nodes by a worker, unless none of them runs; a flow here."""
        unit = frame.level.units[name]
        if isinstance(unit, PlanFlow):
            await self._flow(frame, unit)
            return
        with self.doings.doing():
            skipped = undispatchable(unit, frame.scope)
            if skipped is not None:
                await self.settle(frame, skipped)
                return
            identity = self.identity
            await self._offers.add(offer(identity.run, frame, unit, identity.seeds, identity.traceparent))
            await frame.board.wait(unit.nodes)

    async def _flow(self, frame: Frame, flow: PlanFlow) -> None:
        outcome = await self._flow_outcome(frame, flow)
        if outcome["status"] == "failed" and flow.node.get("on_error") == "skip":
            outcome = {"status": "skipped", "reason": "error", "problem": outcome["problem"]}
        if flow.id not in frame.board.outcomes:
            await self.settle(frame, {flow.id: outcome})
        if frame is self.root:
            self.frames.forget(flow.id)
            if outcome["status"] == "failed":
                self.failed_at_top()

    async def _flow_outcome(self, frame: Frame, flow: PlanFlow) -> Outcome:
        try:
            with self.doings.doing():
                decision = decide(flow.node, await self.whole(frame, flow.needs))
                if isinstance(decision, Skip):
                    return {"status": "skipped", "reason": decision.reason}
                if flow.kind != "flow.approve@1":
                    await self._ends.add(NodeEnd(frame.path(flow.id), "", "{}"))
            return await FLOWS[flow.kind](self, frame, flow, grouped(decision))
        except SpindleError as error:
            if isinstance(error, Unavailable):
                raise
            return {"status": "failed", "problem": error.problem()}

    async def settle(self, frame: Frame, outcomes: Mapping[str, Outcome]) -> None:
        """Write ends that are decided here, then go on with them. Raises Fenced."""
        with self.doings.doing():
            await self._ends.add(*(_end_of(frame.path(id_), outcome) for id_, outcome in outcomes.items()))
        frame.board.put(outcomes)

    async def say(self, path: str, outcome: Outcome, data: Mapping[str, Any] | None = None) -> None:
        """Write how a node stands, and as its event what of that is not its status. Raises Fenced."""
        end = _end_of(path, outcome)
        with self.doings.doing():
            await self._ends.add(end if data is None else end._replace(data=compact(data)))


def first_failure(frame: Frame) -> dict[str, Any] | None:
    """The problem of the node that failed first, with the path where it arose; items are their map's to judge."""
    ended = [(id_, frame.board.outcomes[id_]) for id_ in frame.level.node_task if id_ in frame.board.outcomes]
    failed = [(id_, outcome) for id_, outcome in ended if outcome["status"] == "failed"]
    if not failed:
        return None
    id_, outcome = min(failed, key=lambda item: item[1].get("ended_at", 0))
    return {"instance": f"/nodes/{frame.path(id_)}", **outcome["problem"]}


def grouped(values: Mapping[str, Any]) -> dict[str, Any]:
    """Undo the planner's flattening: `with.prompt` stands under `with` again."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        key, dot, inner = name.partition(".")
        if dot:
            found.setdefault(key, {})[inner] = value
        else:
            found[key] = value
    return found


def _end_of(path: str, outcome: Outcome) -> NodeEnd:
    rest = {key: value for key, value in outcome.items() if key != "status"}
    return NodeEnd(path, outcome_text(outcome["status"], **rest), compact(rest))
