"""Dispatch: what a task needs from outside goes into its body, and offers of the same moment go out in one step."""

import asyncio
from collections.abc import Mapping
from typing import Any

from spindle_common.problems import Unavailable
from spindle_common.queue import NodeEnd, Offer, Queue, compact, outcome_text
from spindle_common.seeds import draw_seed
from spindle_common.stopping import stop
from spindle_common.values import Outcome, Scope, Skip, decide
from spindle_control.compiler import PlanTask

_AWAY_SECONDS = 1.0


class Fenced(Exception):
    """Another driver has this run, or it has ended: stop driving it; says what the script answered."""


def body(run: str, task: PlanTask, scope: Scope, *, seeded: frozenset[str], traceparent: str | None) -> str:
    """Build the task's body (`task.schema.json`) as JSON text; nodes in `seeded` get their drawn seed."""
    nodes = {path: _with_seed(run, path, node) if path in seeded else node for path, node in task.nodes.items()}
    known = [path for path in task.nodes if path in scope.outcomes]  # of another run, which this one repeats
    document: dict[str, Any] = {
        "schema": "spindle.task/v1",
        "run": run,
        "task": task.id,
        "queue": task.queue,
        "nodes": nodes,
        "inputs": {name: scope.inputs[name] for name in task.inputs if name in scope.inputs},
        "feed": {path: _feed(scope.outcomes[path]) for path in (*task.needs, *known)},
    }
    return compact(document | ({"traceparent": traceparent} if traceparent else {}))


def _with_seed(run: str, path: str, node: Mapping[str, Any]) -> dict[str, Any]:
    return {**node, "inputs": {**node.get("inputs", {}), "seed": draw_seed(run, path)}}


def _feed(outcome: Outcome) -> Outcome:
    return {key: outcome[key] for key in ("status", "outputs", "reason") if key in outcome}


def undispatchable(task: PlanTask, scope: Scope) -> dict[str, Outcome] | None:
    """Outcomes of a task none of whose nodes will run, because of `when` or of what went before; else None.

    Decided here so that a skip does not wait in a queue for a worker that has nothing to do.
    """
    if not _may_skip(task, scope):
        return None
    known = dict(scope.outcomes)
    found: dict[str, Outcome] = {}
    for path, node in task.nodes.items():
        try:
            decision = decide(node, Scope(scope.inputs, known, lambda _name: ""))
        except Exception:  # the worker meets the same mistake and reports it as the node's own failure
            return None
        if not isinstance(decision, Skip):
            return None
        known[path] = found[path] = {"status": "skipped", "reason": decision.reason}
    return found


def _may_skip(task: PlanTask, scope: Scope) -> bool:
    outside = [scope.outcomes[path] for path in task.needs]
    if any("$spilled" in compact(o.get("outputs", {})) for o in outside):
        return False
    conditional = any("when" in node for node in task.nodes.values())
    left_out = any(name not in scope.inputs for name in task.inputs)
    return conditional or left_out or any(o["status"] != "completed" for o in outside)


def skip_ends(outcomes: Mapping[str, Outcome]) -> list[NodeEnd]:
    """Skips as the ledger and the event stream want them."""
    return [
        NodeEnd(path, outcome_text("skipped", reason=o["reason"]), compact({"reason": o["reason"]}))
        for path, o in outcomes.items()
    ]


class Dispatcher:
    """Sends a run's offers; those made in the same turn of the loop share one round trip."""

    def __init__(self, queue: Queue, run: str, epoch: int, crash_budget: int) -> None:
        self._queue, self._run, self._epoch = queue, run, epoch
        self._crash_budget = crash_budget
        self._offers: list[Offer] = []
        self._flush: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()

    async def offer(self, task: PlanTask, text: str) -> None:
        """Offer a task, with its body. Raises Fenced when this driver has lost the run."""
        starts = [path for path in task.starts if path in task.nodes]
        self._offers.append(Offer(task.id, task.queue, text, list(task.nodes), starts, task.queue_timeout))
        if self._flush is None:
            self._flush = asyncio.ensure_future(self._send())
            self._sending.add(self._flush)
            self._flush.add_done_callback(self._sent)
        await asyncio.shield(self._flush)

    def _sent(self, sending: asyncio.Task[None]) -> None:
        self._sending.discard(sending)
        if not sending.cancelled():
            sending.exception()  # those that wait for it hear of it; nobody may be left to

    async def close(self) -> None:
        """Stop what is on its way: the run is no longer ours to drive, and the script refuses what comes late."""
        await stop(list(self._sending))

    async def _send(self) -> None:
        await asyncio.sleep(0)
        offers, self._offers, self._flush = self._offers, [], None
        while True:
            try:
                answer = await self._queue.dispatch(self._run, self._epoch, offers, self._crash_budget)
            except Unavailable:
                await asyncio.sleep(_AWAY_SECONDS)
                continue
            if answer != "ok":
                raise Fenced(answer)
            return
