"""One try at a task: its nodes run as a LangGraph, each one's end committed under the task's fence.

    body -> feed -> walk: decide -> call the node -> wait for its uploads -> commit … -> the last commit ends the task

A node's failure is an outcome. One that may be tried again holds its dependents back, lets its siblings end, and then
the task is given back with the node's error counted. What was computed before is found in the cache (`reuse`); what
another task computes just now is waited for, the task handed back. Whoever lost its right (lease, run) stops and
commits nothing.
"""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from spindle_common.cache import Wanted
from spindle_common.graph import Board, walk
from spindle_common.problems import BadInput, Crashed, NodeFailed, SpindleError
from spindle_common.queue import NodeEnd, Queue, Right, Taken, compact, outcome_text
from spindle_common.spill import Bytes, Spill
from spindle_common.stopping import stop
from spindle_common.telemetry import current_trace
from spindle_common.values import ENDED, Outcome, Scope, Skip, decide
from spindle_worker import calling, metrics
from spindle_worker.bounds import Bounds
from spindle_worker.children import ChildDied, Children, Loan, Reach
from spindle_worker.committer import Committer, LostRight, patiently
from spindle_worker.context import Context, Sinks
from spindle_worker.files import Files
from spindle_worker.graphs import graph_of
from spindle_worker.node import NodeSpec
from spindle_worker.reporter import Reporter
from spindle_worker.reuse import ContentCache, Elsewhere, Handles, Looking, Noted

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Equipment:
    """What attempts of a worker share."""

    queue: Queue
    artifacts: Bytes
    specs: Mapping[str, NodeSpec]
    children: Children | None = None
    models: Any = None
    secrets: Any = None
    provenance: Any = None
    cache: ContentCache | None = None


class _Held(NamedTuple):
    """A node that failed and is to be tried again."""

    problem: dict[str, Any]
    delay: float


class Attempt:
    """Runs a taken task to its end, unless its right is lost before."""

    def __init__(self, taken: Taken, right: Right, equipment: Equipment) -> None:
        self.taken, self.right = taken, right
        self._eq = equipment
        self._body: dict[str, Any] = json.loads(taken.body)
        self._nodes: dict[str, dict[str, Any]] = self._body["nodes"]
        self._prefix: str = self._body.get("prefix", "")
        self._stops: set[threading.Event] = set()
        self._unwanted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._files = Files(equipment.artifacts)
        self._looking = Looking(equipment.cache, right)
        self._committer = Committer(equipment.queue, right, self._files.renew, self._looking.landed)
        self._reporter = Reporter(equipment.queue, right, self.cancel)
        self._spill = Spill(equipment.artifacts)
        self._board = Board()
        self._inputs: dict[str, Any] = {}
        self._handles = Handles(self._nodes)
        self._loan = Loan(equipment.children, taken.queue)
        self._died: ChildDied | None = None
        self._held: dict[str, _Held] = {}
        self._errors: dict[str, int] = {}
        self._active = 0
        self._stalled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def cancel(self) -> None:
        """Stop as soon as the nodes notice; nothing more is committed."""
        for each in self._stops:
            each.set()
        if not self._unwanted.done():
            self._unwanted.set_result(None)

    async def run(self) -> str:
        """Run it; returns how the attempt ended: done, retried, waiting, crashed or unwanted."""
        current_trace.set(self._body.get("traceparent"))
        metrics.schedule_to_start.labels(self.taken.queue).observe(self.taken.waited_ms / 1000)
        try:
            outcome = await self._run()
        except LostRight as lost:
            self.cancel()
            log.info("stopped: %s", lost, extra={"task": self.taken.task})
            outcome = "unwanted"
        finally:
            await self._loan.close()
        await self._reporter.close()
        metrics.tasks.labels(self.taken.queue, outcome).inc()
        return outcome

    async def _run(self) -> str:
        self._board.put(await self._known())
        self._inputs = await self._spill.whole(self._body.get("inputs", {}))
        walking = asyncio.ensure_future(walk(graph_of(self._nodes), self._board, self._decide))
        try:
            await asyncio.wait({walking, self._unwanted, self._stalled}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if walking.done():
                await walking
            await stop([walking])
        return await self._unless_unwanted(self._conclude())

    async def _unless_unwanted(self, ending: Coroutine[Any, Any, str]) -> str:
        """Wait for the end, with Redis away for as long as it takes, but not longer than our right lasts."""
        concluding = asyncio.ensure_future(ending)
        try:
            both: set[asyncio.Future[Any]] = {concluding, self._unwanted}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            return concluding.result() if concluding.done() else "unwanted"
        finally:
            await stop([concluding])
            await self._committer.close()

    async def _conclude(self) -> str:
        if self._unwanted.done():
            return "unwanted"
        if self._died is not None:
            return await self._crashed(self._died)
        if self._held:
            return await self._give_back()
        if self._looking.elsewhere:
            await self._committer.finish(last=False)
            await self._looking.wait()
            return "waiting"
        await self._committer.finish(last=True)
        return "done"

    async def _known(self) -> dict[str, Outcome]:
        """What the body feeds, and on a later attempt what an earlier one committed; handles are made again."""
        feed: dict[str, Outcome] = self._body.get("feed", {})
        fed = {path: o for path, o in feed.items() if path not in self._nodes or self._may_keep(path, o)}
        known: dict[str, Outcome] = await self._spill.fetch(fed)
        if self.taken.attempt > 1:
            errors = await self._eq.queue.errors(self.taken.task)
            self._errors = {path.removeprefix(self._prefix): count for path, count in errors.items()}
            ledger = await self._eq.queue.nodes(self.taken.run, [self._path(id_) for id_ in self._nodes])
            kept = {id_: o for id_ in self._nodes if (o := ledger.get(self._path(id_))) and self._may_keep(id_, o)}
            known |= await self._spill.fetch(kept)
        return known

    def _may_keep(self, path: str, outcome: Outcome) -> bool:
        if path not in self._nodes or outcome["status"] not in ENDED:
            return False
        spec = self._eq.specs.get(self._nodes[path]["type"])
        return not (spec and spec.handles)

    def _path(self, id_: str) -> str:
        """The path by which ledger, events and watchers know a node of ours."""
        return self._prefix + id_

    def _extra(self, id_: str) -> dict[str, Any]:
        """What a line of the log says of a node of ours."""
        return {"run": self.taken.run, "node": self._path(id_), "attempt": self.taken.attempt}

    # One node ------------------------------------------------------------------------------------------------------

    async def _decide(self, path: str) -> None:
        node = self._nodes[path]
        self._active += 1
        try:
            outcome = await self._outcome(path, node)
        finally:
            self._active -= 1
        if outcome is not None:
            self._board.put({path: outcome})
        self._notice_stall()

    async def _outcome(self, path: str, node: Mapping[str, Any]) -> Outcome | None:
        """Run one node and commit its end; None when it is to be tried again."""
        wanted = None
        try:
            secrets = Noted(self._eq.secrets) if self._eq.secrets else None
            decision = decide(node, Scope(self._inputs, self._board.outcomes, secrets))
            if isinstance(decision, Skip):
                return self._commit(path, {"status": "skipped", "reason": decision.reason})
            wanted = None if secrets and secrets.used else self._wanted(path, node, decision)
            found = await self._looking.find(wanted) if wanted else None
            if wanted is None or found is None:
                return await self._computed(path, decision, wanted)
            return await self._reused(path, decision, wanted, found)
        except SpindleError as error:
            return self._failed(path, node, error)
        except ChildDied as died:
            self._stop_for(path, died)
        except Elsewhere:
            log.debug("another task computes it", extra=self._extra(path))
        finally:
            self._looking.ended(wanted)
        return None

    def _wanted(self, path: str, node: Mapping[str, Any], inputs: dict[str, Any]) -> Wanted | None:
        """What it would look for in the cache; None for what is not kept there."""
        spec, cache = self._eq.specs.get(node["type"]), self._eq.cache
        if cache is None or spec is None or not node.get("cache", True):
            return None
        return cache.wanted(spec, self._path(path), inputs)

    async def _reused(self, path: str, inputs: dict[str, Any], wanted: Wanted, found: dict[str, Any]) -> Outcome:
        """Commit what was computed before; handles are made again if somebody must run who needs them."""
        outcome = {"status": "completed", "outputs": found, "reused": True}
        values = await self._spill.whole(found)
        ports = self._eq.specs[self._nodes[path]["type"]].handles
        if ports:
            self._handles.put_off(path, outcome, lambda: self._made(path, inputs, wanted))
            self._commit_unasked(path)
        else:
            self._commit(path, outcome)
        return {"status": "completed", "outputs": values | self._handles.refs(path, ports, wanted.name)}

    async def _computed(self, path: str, inputs: dict[str, Any], wanted: Wanted | None) -> Outcome:
        returned = await self._compute(path, inputs, wanted)
        refs = self._handles.refs(path, returned.handles, wanted and wanted.name)
        return {"status": "completed", "outputs": returned.values | refs}

    async def _made(self, path: str, inputs: dict[str, Any], wanted: Wanted) -> Mapping[str, Any]:
        """Make handles that were put off; then it has run after all."""
        return (await self._compute(path, inputs, wanted)).handles

    async def _compute(self, path: str, inputs: dict[str, Any], wanted: Wanted | None) -> calling.Returned:
        """Run a node and commit what it returned, its bytes uploaded."""
        given = await self._handles.given(inputs)
        began, node = time.perf_counter(), self._nodes[path]
        self._committer.started(self._path(path))
        returned = await self._call(path, node, given)
        kept = await self._spill.store(returned.values)
        await self._files.settle()
        metrics.node_seconds.labels(node["type"]).observe(time.perf_counter() - began)
        await self._looking.keep(wanted, outcome_text("completed", outputs=kept))
        self._handles.made(path, returned.handles)
        self._commit(path, {"status": "completed", "outputs": kept})
        self._looking.ended(wanted, kept)
        return returned

    async def _call(self, path: str, node: Mapping[str, Any], inputs: dict[str, Any]) -> calling.Returned:
        spec = self._eq.specs.get(node["type"])
        if spec is None:
            raise NodeFailed(f"this worker does not know {node['type']}")
        bounds = Bounds(node.get("timeout"), node.get("idle"))
        if not spec.native:
            return await self._call_light(spec, path, inputs, bounds)
        async with self._loan.turn() as child:
            return await bounds.keep(child.call(spec.type, inputs, self._reach(path, bounds)))

    async def _call_light(self, spec: NodeSpec, path: str, inputs: dict[str, Any], bounds: Bounds) -> calling.Returned:
        sinks = Sinks(
            _after(bounds.heard, self._reporter.progress),
            _after(bounds.heard, self._reporter.preview),
            self._provenance,
        )
        context = Context(
            self.taken.run, self._path(path), self.taken.attempt, self._files, sinks, models=self._eq.models
        )
        self._stops.add(context.stop)
        try:
            return await bounds.keep(calling.call(spec, inputs, context))
        finally:
            context.stop.set()
            self._stops.discard(context.stop)

    def _reach(self, path: str, bounds: Bounds) -> Reach:
        path = self._path(path)
        return Reach(
            self.taken.run,
            path,
            self.taken.attempt,
            self._files,
            progress=lambda tick: self._reporter.progress(path, tick),
            preview=lambda preview: self._reporter.encoded(path, preview),
            provenance=self._provenance,
            heard=bounds.heard,
        )

    def _provenance(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._eq.provenance(self.taken.run)
        return found

    def _failed(self, path: str, node: Mapping[str, Any], error: SpindleError) -> Outcome | None:
        problem = error.problem()
        log.warning("failed: %s", error, extra=self._extra(path))
        errors = self._errors.get(path, 0) + 1
        if errors < node.get("max_attempts", 1) and not isinstance(error, BadInput):
            self._held[path] = _Held(problem, node.get("backoff", 1.0) * 2 ** (errors - 1))
            return None
        if node.get("on_error") == "skip":
            return self._commit(path, {"status": "skipped", "reason": "error", "problem": problem})
        return self._commit(path, {"status": "failed", "problem": problem})

    def _commit(self, path: str, outcome: Outcome) -> Outcome:
        self._commit_unasked(path)
        return self._say(path, outcome)

    def _commit_unasked(self, ending: str) -> None:
        """Commit makers of handles that were put off, once all who might have asked for them have ended."""
        if self._handles.unsaid:
            known = self._board.outcomes
            for path, outcome in self._handles.said(lambda user: user == ending or user in known).items():
                self._say(path, outcome)

    def _say(self, path: str, outcome: Outcome) -> Outcome:
        status = outcome["status"]
        rest = {key: value for key, value in outcome.items() if key != "status"}
        metrics.nodes.labels(self._nodes[path]["type"], "reused" if "reused" in outcome else status).inc()
        others = (other for other in self._nodes if other != path)
        back = self._held or self._looking.elsewhere or self._handles.unsaid
        last = not back and self._board.knows(others)
        self._committer.ended(NodeEnd(self._path(path), outcome_text(status, **rest), compact(rest)), last=last)
        return outcome

    # Trying again --------------------------------------------------------------------------------------------------

    def _notice_stall(self) -> None:
        """Once nodes are held back or wait, and none can run any more, the attempt is over."""
        back = {*self._held, *(path.removeprefix(self._prefix) for path in self._looking.elsewhere)}
        if not back or self._active or self._stalled.done():
            return
        open_paths = [p for p in self._nodes if p not in self._board.outcomes and p not in back]
        if not any(self._board.knows(self._nodes[p].get("needs", ())) for p in open_paths):
            self._stalled.set_result(None)

    def _stop_for(self, path: str, died: ChildDied) -> None:
        """A child that dies ends the attempt: what it kept is lost, and what killed it may be any node before."""
        log.warning("%s", died, extra=self._extra(path))
        self._died = self._died or died
        if not self._stalled.done():
            self._stalled.set_result(None)

    async def _crashed(self, died: ChildDied) -> str:
        metrics.child_deaths.labels(died.exit.name).inc()
        await self._committer.finish(last=False)
        spent = compact(Crashed(f"{died}, as often as its budget allows").problem())
        queue = self._eq.queue
        await patiently(lambda: queue.give_back(self.right, "crash", spent=spent))
        return "crashed"

    async def _give_back(self) -> str:
        await self._committer.finish(last=False)
        queue, delay = self._eq.queue, max(held.delay for held in self._held.values())
        failed = {
            self._path(id_): compact({"cause": "error", "delay_seconds": delay, "problem": held.problem})
            for id_, held in self._held.items()
        }
        await patiently(lambda: queue.give_back(self.right, "error", delay=delay, failed=failed))
        return "retried"


def _after(heard: Callable[[], None], sink: Callable[[str, Any], None]) -> Callable[[str, Any], None]:
    """Put a sink behind taking note that there was a report."""

    def put(path: str, what: Any) -> None:
        heard()
        sink(path, what)

    return put
