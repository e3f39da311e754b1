"""A run as the API shows it: row and ledger as `run.schema.json` describes them."""

from collections.abc import Mapping
from typing import Any

from spindle_common.events import rfc3339
from spindle_control.store import RunRow

Json = dict[str, Any]


def record_of(row: RunRow, ledger: Mapping[str, Json] | None, ticks: Mapping[str, Json]) -> Json:
    """Build the record; without a ledger (a page of runs) it has no nodes, inputs or outputs."""
    identity: Json = {"name": row.name or "untitled", "digest": row.workflow_digest}
    if row.workflow_version is not None:
        identity["version"] = row.workflow_version
    record: Json = {
        "id": row.id,
        "status": row.status,
        "created_at": rfc3339(row.created_at),
        "tenant": row.tenant,
        "priority": row.priority,
        "workflow": identity,
    }
    optional = {
        "started_at": row.started_at and rfc3339(row.started_at),
        "ended_at": row.ended_at and rfc3339(row.ended_at),
        "problem": row.problem,
        "parent": row.parent,
        "reason": row.reason,
    }
    record |= {key: value for key, value in optional.items() if value}
    if ledger is not None:
        record |= {"inputs": row.inputs, "outputs": row.outputs or {}, "nodes": _nodes(row, ledger, ticks)}
    return record


def _nodes(row: RunRow, ledger: Mapping[str, Json], ticks: Mapping[str, Json]) -> Json:
    declared: Mapping[str, Json] = row.workflow["nodes"]
    idle = "cancelled" if row.ended_at else "pending"
    return {
        path: node_record(node["type"], ledger.get(path, {"status": idle}), ticks.get(path))
        for path, node in declared.items()
    }


def _question(kept: Json) -> Json:
    shown = {"show": kept["show"], "answer": kept["answer"]}
    deadline = kept.get("deadline_at")
    return shown if deadline is None else shown | {"deadline": rfc3339(deadline)}


def node_record(node_type: str, outcome: Json, tick: Json | None) -> Json:
    """Build the record of a node, or of an instance, from its outcome."""
    record: Json = {"type": node_type, "attempt": 0, "outputs": {}} | outcome
    for name in ("started_at", "ended_at"):
        if name in record:
            record[name] = rfc3339(record[name])
    record.pop("for", None)
    if "question" in record:
        record["question"] = _question(record["question"])
    if tick and record["status"] == "running":
        record["progress"] = tick
    return record
