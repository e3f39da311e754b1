"""A run as the database knows it, and how it becomes a row and back."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from spindle_control.tables import runs

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run. Times are milliseconds since 1970; `nodes` is the archived ledger (path -> outcome).

    `parked` holds what else a paused run is made of while Redis has nothing of it: {"plan": text, "last_event": id}.
    `reason` says why a run repeats its `parent`: retry, fork or redrive.
    """

    id: str
    tenant: str
    status: str
    priority: int
    owner: str | None
    epoch: int
    created_at: int
    started_at: int | None
    ended_at: int | None
    workflow: Json
    workflow_digest: str
    workflow_version: int | None
    inputs: Json
    outputs: Json | None = None
    nodes: Json | None = None
    problem: Json | None = None
    parent: str | None = None
    traceparent: str | None = None
    parked: Json | None = None
    reason: str | None = None
    seeds_from: str | None = None

    @property
    def seeds(self) -> str:
        """The run by whose id seeds are drawn: its own, or that of the run which it repeats in the end."""
        return self.seeds_from or self.id

    @property
    def name(self) -> str:
        """The workflow's name."""
        return str(self.workflow.get("name", ""))


FULL = tuple(runs.c[name] for name in RunRow.__slots__)
_HEAVY = frozenset({"workflow", "inputs", "outputs", "nodes", "parked"})
LIGHT = (*(column for column in FULL if column.name not in _HEAVY), runs.c.name)


def to_values(row: RunRow) -> Json:
    """Return the columns' values of a row."""
    return {name: getattr(row, name) for name in RunRow.__slots__} | {"name": row.name}


def full(found: sa.Row[Any]) -> RunRow:
    """Build a run from a row of the columns `FULL`."""
    values: tuple[Any, ...] = tuple(found)
    return RunRow(*values)


def light(found: sa.Row[Any]) -> RunRow:
    """Build a run from a row of the columns `LIGHT`: of the workflow only its name, no inputs, outputs or nodes."""
    values: Json = {"inputs": {}, **found._mapping}
    values["workflow"] = {"name": values.pop("name")}
    return RunRow(**values)
