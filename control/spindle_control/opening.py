"""A run's hash in Redis: opened when the run is accepted, read again by whoever adopts it, rebuilt when it goes on.

park: paused -> `parking` (frozen) -> copied to the row -> gone from Redis       restore: row -> hash, ledger, events
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from spindle_common.events import START, read_events
from spindle_common.problems import StateLost
from spindle_common.queue import Fields, NodeEnd, Queue, compact, outcome_json
from spindle_common.seeds import draw_seed
from spindle_control.planner import Planned
from spindle_control.store import RunRow, Store

_EVENTS_AT_MOST = 1_000_000


async def open_run(queue: Queue, row: RunRow, planned: Planned, weight: float) -> str:
    """Create the run's hash and its first events, as its row says; `row.nodes` are results that it re-uses.

    Raises:
        Unavailable: Redis is away.

    """
    reuse = [
        NodeEnd(path, outcome_json(outcome), compact({"outputs": outcome["outputs"], "reused": True}))
        for path, outcome in (row.nodes or {}).items()
    ]
    fields = _fields(row, planned, weight)
    return await queue.open(
        row.id, status=row.status, owner=row.owner or "", epoch=row.epoch, fields=fields, reuse=reuse
    )


def _fields(row: RunRow, planned: Planned, weight: float) -> Fields:
    return {
        "tenant": row.tenant,
        "weight": weight,
        "priority": row.priority,
        "workflow": compact(with_seeds(row.seeds, row.workflow, planned.seeded)),
        "inputs": compact(row.inputs),
        "plan": planned.text,
        "traceparent": row.traceparent or "",
        "seeds": row.seeds,
    }


async def park_run(queue: Queue, store: Store, run: str, epoch: int, asked: Sequence[str] = ()) -> str:
    """Move a run to the database that is paused, or that waits for nothing but the answers of the nodes `asked`.

    Answers `parked`, or why not (`busy`: tasks still run). Raises Unavailable.
    """
    answer = await queue.park(run, epoch, asked)
    if answer != "parking":
        return answer
    plan, asks = await queue.run_fields(run, "plan", "asks")
    events = await read_events(queue.client, run, START, _EVENTS_AT_MOST)
    ledger = await queue.ledger(run)
    status, held = await queue.run_fields(run, "status", "epoch")
    if (status, held) != ("parking", str(epoch)) or not plan:  # another parked it meanwhile: we read half of it
        return "stale"
    deadlines = [at for outcome in ledger.values() if asks and (at := _deadline(outcome)) is not None]
    parked = {"plan": plan, "last_event": events[-1]["id"], "asks": bool(asks)}
    if not await store.park_run(run, epoch, ledger, parked, events, wake_at=min(deadlines, default=None)):
        return "stale"
    await queue.parked(run, epoch)
    return "parked"


def _deadline(outcome: Mapping[str, Any]) -> int | None:
    waits = outcome["status"] == "waiting" and "question" in outcome
    return outcome["question"].get("deadline_at") if waits else None


async def restore_run(queue: Queue, row: RunRow, weight: float) -> str:
    """Bring a parked run back to Redis, as its row says, under its new owner and epoch. Raises Unavailable."""
    parked: Mapping[str, Any] = row.parked or {}
    fields = _fields(row, Planned.parse(parked["plan"]), weight)
    last = parked["last_event"]
    return await queue.restore(
        row.id, owner=row.owner or "", epoch=row.epoch, fields=fields, last_event=last, ledger=row.nodes or {}
    )


async def planned_of(queue: Queue, run: str) -> Planned:
    """Read the plan with which a run was opened. Raises StateLost, Unavailable."""
    (text,) = await queue.run_fields(run, "plan")
    if not text:
        raise StateLost("Redis no longer holds the plan of this run")
    return Planned.parse(text)


def with_seeds(seeds: str, workflow: dict[str, Any], seeded: frozenset[str]) -> dict[str, Any]:
    """Return the workflow with the drawn seeds written in, so that it makes the same again; `seeds`: by whose id."""
    if not seeded:
        return workflow
    pinned = copy.deepcopy(workflow)
    for path in seeded:
        pinned["nodes"][path].setdefault("inputs", {})["seed"] = draw_seed(seeds, path)
    return pinned
