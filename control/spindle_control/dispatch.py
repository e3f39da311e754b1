"""Dispatch: what a task needs from outside goes into its body; what needs no worker is decided here."""

from collections.abc import Mapping
from typing import Any

from spindle_common.queue import Offer, compact
from spindle_common.seeds import draw_seed
from spindle_common.spill import is_spilled
from spindle_common.values import Outcome, Scope, Skip, decide
from spindle_control.compiler import PlanTask
from spindle_control.frames import Frame


def offer(run: str, frame: Frame, task: PlanTask, seeds: str, traceparent: str | None) -> Offer:
    """Build the offer of a task in a frame, with its body (`task.schema.json`) as JSON text.

    Seeds that nobody gave are drawn by the id `seeds`: the run's own, or that of the run which it repeats.
    """
    drawn, scope = frame.level.seeded, frame.scope
    nodes = {i: _with_seed(seeds, frame.path(i), node) if i in drawn else node for i, node in task.nodes.items()}
    known = [id_ for id_ in task.nodes if id_ in scope.outcomes]  # of another run, which this one repeats
    document: dict[str, Any] = {
        "schema": "spindle.task/v1",
        "run": run,
        "task": frame.path(task.id),
        "queue": task.queue,
        "nodes": nodes,
        "inputs": {name: scope.inputs[name] for name in task.inputs if name in scope.inputs},
        "feed": {id_: _feed(scope.outcomes[id_]) for id_ in (*task.needs, *known)},
    }
    optional = {"prefix": frame.prefix, "traceparent": traceparent}
    text = compact(document | {key: value for key, value in optional.items() if value})
    paths = [frame.path(id_) for id_ in task.nodes]
    starts = [frame.path(id_) for id_ in task.starts]
    form = "frames" if frame.prefix else ""
    return Offer(frame.path(task.id), task.queue, text, paths, starts, task.queue_timeout, form)


def _with_seed(seeds: str, path: str, node: Mapping[str, Any]) -> dict[str, Any]:
    return {**node, "inputs": {**node.get("inputs", {}), "seed": draw_seed(seeds, path)}}


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
    given = [scope.inputs.get(name) for name in task.inputs]
    if any(map(is_spilled, (*given, *(value for o in outside for value in o.get("outputs", {}).values())))):
        return False  # only a worker sees them whole
    conditional = any("when" in node for node in task.nodes.values())
    left_out = any(name not in scope.inputs for name in task.inputs)
    return conditional or left_out or any(o["status"] != "completed" for o in outside)
