"""Why a node is as it is: one sentence, what it waits for, where it stands in its queue, what made it skip.

path -> node (document) and outcome (ledger) -> a case by its status -> siblings, task, values as far as it needs
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spindle_common import expressions
from spindle_common.events import rfc3339
from spindle_common.problems import NotFound, StateLost
from spindle_common.queue import Place
from spindle_common.values import ENDED, INPUT_SKIPPED, UPSTREAM_FAILED, WHEN_FALSE, Outcome, references
from spindle_control.compiler import PlanLevel, PlanTask
from spindle_control.drive import Parts
from spindle_control.ledgers import Ledger
from spindle_control.library import Library
from spindle_control.opening import planned_of
from spindle_control.paths import Nodes, ids_of, is_path, outer_of, split
from spindle_control.records import node_record
from spindle_control.rows import Json, RunRow
from spindle_control.seen import Seen

_GIVEN = ("inputs", "over", "with", "carry", "show")
_DEAD = ("done", "dead")


@dataclass(frozen=True)
class Case:
    """A node, and where to look."""

    parts: Parts
    library: Library
    ledger: Ledger
    nodes: Nodes
    path: str
    node: Json
    outcome: Outcome

    @property
    def flow(self) -> bool:
        """Whether control itself carries the node out."""
        return str(self.node["type"]).startswith("flow.")


async def why(parts: Parts, library: Library, row: RunRow, path: str) -> Json:
    """Explain a node of a run. Raises NotFound, Unavailable."""
    nodes = Nodes(row.workflow, await library.called(row.tenant, row.workflow))
    node = nodes.at(path) if is_path(path) else None
    if node is None:
        raise NotFound(f"The workflow of this run has no node {path[:200]!r}.")
    ledger = await Ledger.of(parts.queue, row)
    idle = "cancelled" if ledger.status in ENDED else "pending"
    outcome = (await ledger.outcomes([path])).get(path, {"status": idle})
    record = node_record(node["type"], outcome, None)
    shown = {name: record[name] for name in ("attempt", "problem", "question") if name in record}
    said = await _CASES[outcome["status"]](Case(parts, library, ledger, nodes, path, node, outcome))
    return (
        {"path": path, "type": node["type"], "status": outcome["status"], "waits_for": [], "queue": None} | shown | said
    )


# What has not ended ------------------------------------------------------------------------------------------------


async def _pending(case: Case) -> Json:
    if case.ledger.status in ("queued", "paused"):
        return {"because": _RESTS[case.ledger.status]}
    prefix, id_, number = split(case.path)
    if number is not None:
        return await _instance(case, prefix + id_, number)
    outer = outer_of(prefix)
    if outer is not None and (await _status(case, outer)) in ENDED:
        return {"because": f"`{outer}` ended without it"}
    waits = await _open(case, (prefix + need for need in sorted(needs_of(case.node))))
    if waits:
        return {"because": f"it waits for {_named(waits)}", "waits_for": waits}
    return await _with_others(case, prefix, id_)


async def _instance(case: Case, flow: str, number: int) -> Json:
    status = await _status(case, flow)
    if status != "running":
        return {"because": f"`{flow}` is {status}", "waits_for": [{"node": flow, "status": status}]}
    inside = await case.ledger.outcomes([f"{case.path}.{id_}" for id_ in _ids(case, case.node)])
    if inside:
        waits = [{"node": path, "status": o["status"]} for path, o in inside.items() if o["status"] not in ENDED]
        return {"because": f"it is under way{': ' + _named(waits) if waits else ''}", "waits_for": waits}
    if case.node["type"] == "flow.loop@1" and number:
        before = f"{flow}[{number - 1}]"
        return {"because": f"it comes after `{before}`", "waits_for": [{"node": before, "status": "pending"}]}
    return {"because": f"its turn has not come: `{flow}` does {case.node.get('concurrency', 16)} at a time"}


async def _with_others(case: Case, prefix: str, id_: str) -> Json:
    """A node that is ready but whose task has others that are not."""
    for task in await _tasks(case, prefix, id_):
        waits = await _open(case, (prefix + need for need in task.needs))
        if waits:
            mates = ", ".join(f"`{prefix}{mate}`" for mate in task.nodes if mate != id_)
            return {"because": f"it runs in one task with {mates}, which waits for {_named(waits)}", "waits_for": waits}
    return {"because": "all it needs has ended; it is about to be decided"}


async def _queued(case: Case) -> Json:
    if case.ledger.status == "paused":
        return {"because": _RESTS["paused"]}
    place = await _place(case)
    if place is None:
        return {"because": "its task is about to be offered to workers"}
    queue = {"name": place.queue, "position": place.position, "waiting": place.waiting, "slots": place.slots}
    return _attempts(place) | {"because": await _stands(case, place), "queue": queue}


async def _stands(case: Case, place: Place) -> str:
    if place.state == "waiting":
        when = f" at {rfc3339(place.due)}" if place.due else ""
        return f"attempt {place.attempt} did not end it; it is tried again{when}"
    if place.state == "running":
        waits = await _open(case, (split(case.path)[0] + need for need in sorted(needs_of(case.node))))
        then = f" and waits for {_named(waits)}" if waits else ""
        return f"worker {place.worker} has its task{then}"
    if not place.slots:
        return f"no worker serves the queue `{place.queue}`"
    if not place.position:
        return f"it is next in the queue `{place.queue}`: the first of its {_slots(place)} that is free takes it"
    before = place.position - 1
    return f"{before} of your tasks come before it in the queue `{place.queue}`, which has {_slots(place)}"


async def _waiting(case: Case) -> Json:
    if "question" in case.outcome:
        until = case.outcome["question"].get("deadline_at")
        return {"because": "it waits for a person's answer" + (f" until {rfc3339(until)}" if until else "")}
    if case.outcome.get("reason") == "computed-elsewhere":
        return {"because": "another run computes the same just now; its result will be used"}
    return await _queued(case)


async def _running(case: Case) -> Json:
    if not case.flow:
        place = await _place(case)
        worker = f" on worker {place.worker}" if place else ""
        return (_attempts(place) if place else {}) | {"because": f"attempt {case.outcome['attempt']} runs{worker}"}
    inside = [f"{case.path}.{id_}" for id_ in _ids(case, case.node)] if case.node["type"] == "flow.call@1" else []
    waits = await _open(case, inside)
    return {"because": "what is inside it runs", "waits_for": waits}


# What has ended ----------------------------------------------------------------------------------------------------


async def _completed(case: Case) -> Json:
    outcome, row = case.outcome, case.ledger.row
    if outcome.get("reused") and not outcome.get("attempt") and row.parent:
        because = f"its result was taken over from the run {row.parent}: nothing that it depends on had changed"
        return {"because": because, "reused_from": row.parent}
    if outcome.get("reused"):
        return {"because": "its result was in the content cache", "reused_from": "cache"}
    if case.node["type"] == "flow.approve@1":
        answered = outcome["outputs"].get("answered", True)
        return {"because": "a person answered" if answered else "nobody answered in time, so the default was taken"}
    return {"because": "it ran" + (f"; attempt {outcome['attempt']} completed it" if outcome.get("attempt") else "")}


async def _failed(case: Case) -> Json:
    problem = case.outcome["problem"]
    place = await _place(case) if case.ledger.live else None
    detail = problem.get("detail") or problem.get("title")
    return (_attempts(place) if place else {}) | {"because": f"it failed: {detail}"}


async def _skipped(case: Case) -> Json:
    reason = case.outcome.get("reason")
    seen = Seen(case.parts.artifacts, case.ledger, case.nodes)
    prefix = split(case.path)[0]
    if reason == WHEN_FALSE:
        roots = sorted(expressions.parse(case.node["when"]).roots)
        values = await seen.values(prefix, roots)
        shown = ", ".join(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items())
        because = f"its `when` was not true: {case.node['when']}" + (f", where {shown}" if shown else "")
        return {"because": because, "skipped": {"reason": reason, "when": case.node["when"], "values": values}}
    if reason in (INPUT_SKIPPED, UPSTREAM_FAILED):
        return await _for_want(case, prefix, str(reason))
    if reason == "error":
        detail = case.outcome.get("problem", {}).get("detail", "it failed")
        return {"because": f"it failed, and `on_error` says to skip it then: {detail}", "skipped": {"reason": reason}}
    return {"because": f"it was skipped: {reason}", "skipped": {"reason": reason}}


async def _for_want(case: Case, prefix: str, reason: str) -> Json:
    """Name the reference that had nothing to give."""
    known = await case.ledger.outcomes([prefix + need for need in sorted(needs_of(case.node))])
    bad = {path: o for path, o in known.items() if o["status"] != "completed"}
    if reason == UPSTREAM_FAILED:
        bad = {p: o for p, o in bad.items() if o["status"] != "skipped" or o.get("reason") == reason} or bad
    for dotted in sorted(_references(case.node)):
        path = prefix + dotted.partition(".")[0]
        if path in bad:
            status = bad[path]["status"]
            because = (
                f"it needs `{dotted}`, and `{path}` was {status}"
                if status != "failed"
                else (f"it needs `{dotted}`, and `{path}` failed")
            )
            found = {"reason": reason, "reference": dotted, "node": path, "status": status}
            return {"because": because, "skipped": found}
    for path, outcome in bad.items():
        found = {"reason": reason, "node": path, "status": outcome["status"]}
        return {"because": f"it comes after `{path}`, which is {outcome['status']}", "skipped": found}
    missing = next((d for d in sorted(_references(case.node)) if d.startswith("inputs.")), None)
    because = f"it needs `{missing}`, which was not given" if missing else "what it needs was skipped"
    return {"because": because, "skipped": {"reason": reason} | ({"reference": missing} if missing else {})}


async def _cancelled(case: Case) -> Json:
    return {"because": f"the run ended ({case.ledger.status}) before it did"}


_CASES: Mapping[str, Callable[[Case], Awaitable[Json]]] = {
    "pending": _pending,
    "queued": _queued,
    "running": _running,
    "waiting": _waiting,
    "completed": _completed,
    "failed": _failed,
    "skipped": _skipped,
    "cancelled": _cancelled,
}
_RESTS = {"queued": "no control has room to drive the run yet", "paused": "the run is paused"}


# Looking -----------------------------------------------------------------------------------------------------------


def needs_of(node: Json) -> set[str]:
    """Return the ids of the nodes of its level that a node refers to, those of `after` included."""
    owners = {dotted.partition(".")[0] for dotted in _references(node)}
    return (owners | {*node.get("after", ())}) - {"inputs"}


def _references(node: Json) -> set[str]:
    found = {dotted for key in _GIVEN if key in node for dotted in references(node[key])}
    return found | (expressions.parse(node["when"]).roots if "when" in node else frozenset())


async def _status(case: Case, path: str) -> str:
    found = await case.ledger.outcomes([path])
    return str(found[path]["status"]) if path in found else "pending"


async def _open(case: Case, paths: Iterable[str]) -> list[Json]:
    """Those of some nodes that have not ended, with their states."""
    wanted = list(paths)
    known = await case.ledger.outcomes(wanted)
    states = {path: known.get(path, {"status": "pending"})["status"] for path in wanted}
    return [{"node": path, "status": status} for path, status in states.items() if status not in ENDED]


def _ids(case: Case, node: Json) -> list[str]:
    return list((case.nodes.inside(node) or {}).get("nodes", {}))


async def _tasks(case: Case, prefix: str, id_: str) -> list[PlanTask]:
    """The tasks that hold a node, of the plan with which its run was opened."""
    row = case.ledger.row
    try:
        planned = case.library.known(row) or await planned_of(case.parts.queue, row.id)
    except StateLost:
        return []
    level: PlanLevel | None = planned.plan.level
    for outer in ids_of(prefix):
        unit = level.units.get(outer) if level else None
        level = None if unit is None or isinstance(unit, PlanTask) else unit.body
    units = [level.units[name] for name in level.node_task.get(id_, ())] if level else []
    return [unit for unit in units if isinstance(unit, PlanTask)]


async def _place(case: Case) -> Place | None:
    """Where the node's task is, of several the one that has not ended."""
    prefix, id_, _ = split(case.path)
    places = [
        await case.parts.queue.place(f"{case.ledger.row.id}/{prefix}{task.id}")
        for task in await _tasks(case, prefix, id_)
    ]
    known = [place for place in places if place]
    return next((place for place in known if place.state not in _DEAD), known[0] if known else None)


def _attempts(place: Place) -> Json:
    """What became of the attempts before, and when there is another."""
    past: list[dict[str, Any]] = json.loads(f"[{place.history}]")
    history = [{**{k: v for k, v in one.items() if k != "at"}, "time": rfc3339(one["at"])} for one in past]
    again = {"next_attempt_at": rfc3339(place.due)} if place.state == "waiting" and place.due else {}
    return ({"history": history} if history else {}) | again


def _slots(place: Place) -> str:
    return "1 slot" if place.slots == 1 else f"{place.slots} slots"


def _named(waits: list[Json]) -> str:
    """Name the first few."""
    names = [f"`{each['node']}` ({each['status']})" for each in waits[:5]]
    more = f" and {len(waits) - 5} more" if len(waits) > 5 else ""
    return ", ".join(names) + more
