"""Runs for the tests of the store."""

from typing import Any

from spindle_control.store import RunRow


def a_run(run_id: str = "r1", **changes: Any) -> RunRow:
    values: dict[str, Any] = {
        "id": run_id,
        "tenant": "default",
        "status": "queued",
        "priority": 0,
        "owner": None,
        "epoch": 0,
        "created_at": 1_700_000_000_000,
        "started_at": None,
        "ended_at": None,
        "workflow": {"schema": "spindle.workflow/v1", "name": "poster", "nodes": {"b": {}, "a": {}}},
        "workflow_digest": "sha256:" + "0" * 64,
        "workflow_version": None,
        "inputs": {"subject": "ein großer Stern ★"},
    }
    return RunRow(**values | changes)
