"""A run's hash in Redis: opened when the run is accepted, read again by whoever adopts it."""

import copy
from typing import Any

from spindle_common.problems import StateLost
from spindle_common.queue import Queue, compact
from spindle_common.seeds import draw_seed
from spindle_control.planner import Planned
from spindle_control.store import RunRow


async def open_run(queue: Queue, row: RunRow, planned: Planned) -> str:
    """Create the run's hash and its first events, as its row says. Raises Unavailable."""
    fields: dict[str, str | int] = {
        "tenant": row.tenant,
        "priority": row.priority,
        "workflow": compact(with_seeds(row.id, row.workflow, planned.seeded)),
        "inputs": compact(row.inputs),
        "plan": planned.text,
        "traceparent": row.traceparent or "",
    }
    return await queue.open(row.id, status=row.status, owner=row.owner or "", epoch=row.epoch, fields=fields)


async def planned_of(queue: Queue, run: str) -> Planned:
    """Read the plan with which a run was opened. Raises StateLost, Unavailable."""
    (text,) = await queue.run_fields(run, "plan")
    if not text:
        raise StateLost("Redis no longer holds the plan of this run")
    return Planned.parse(text)


def with_seeds(run: str, workflow: dict[str, Any], seeded: frozenset[str]) -> dict[str, Any]:
    """Return the workflow with the drawn seeds written in, so that it makes the same again."""
    if not seeded:
        return workflow
    pinned = copy.deepcopy(workflow)
    for path in seeded:
        pinned["nodes"][path].setdefault("inputs", {})["seed"] = draw_seed(run, path)
    return pinned
