"""Pages of a run's nodes, those of bodies and called workflows too: all paths are sorted, the page's alone are read.

ledger's paths, and nodes that have not begun -> under, status, after -> the least `limit` of them -> their records
"""

import asyncio
import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from spindle_control.ledgers import Ledger
from spindle_control.paths import Nodes, is_under, order
from spindle_control.records import node_record
from spindle_control.rows import Json

_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Wanted:
    """Which nodes a page shows: what lies `under` one, in a status, behind the path `after`."""

    under: str | None = None
    status: str | None = None
    after: str | None = None
    limit: int = 100


async def page(ledger: Ledger, nodes: Nodes, wanted: Wanted) -> Json:
    """Return records in order of their paths, and the cursor after them. Raises Unavailable."""
    idle = "cancelled" if ledger.row.ended_at else "pending"
    declared = ledger.row.workflow["nodes"]
    if wanted.status is None:
        known = {*await ledger.paths(), *declared}
    else:
        statuses = dict.fromkeys(declared, idle) | dict(await ledger.statuses())
        known = {path for path, status in statuses.items() if status == wanted.status}
    chosen = await asyncio.to_thread(_chosen, known, wanted)
    shown = chosen[: wanted.limit]
    outcomes, ticks = await ledger.outcomes(shown), await ledger.ticks(shown)
    records: list[Json] = []
    for path in shown:
        type_ = (nodes.at(path) or {}).get("type", _UNKNOWN)
        records.append({"path": path} | node_record(type_, outcomes.get(path, {"status": idle}), ticks.get(path)))
    return {"nodes": records, "next": shown[-1] if len(chosen) > wanted.limit else None}


def _chosen(paths: Iterable[str], wanted: Wanted) -> list[str]:
    """The least paths behind the cursor, one more than a page has."""
    if wanted.under is not None:
        paths = [path for path in paths if is_under(path, wanted.under)]
    ordered = ((order(path), path) for path in paths)
    if wanted.after:
        cursor = order(wanted.after)
        ordered = ((key, path) for key, path in ordered if key > cursor)
    return [path for _, path in heapq.nsmallest(wanted.limit + 1, ordered)]
