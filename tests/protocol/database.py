"""The simulated database: what the store's statements do, each at one moment, and what the crowd's runs consist of."""

import random
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from protocol.world import Command
from spindle_common.connection import away
from spindle_common.queue import Fields

ENDED = ("completed", "failed", "cancelled")
QUEUES = ("cpu", "gpu")
TENANTS = {"small": 1, "large": 3}


class TaskPlan(NamedTuple):
    """A task: its nodes in order, and the nodes of others that it needs."""

    name: str
    queue: str
    nodes: tuple[str, ...]
    needs: tuple[str, ...]
    patience: float


@dataclass
class Row:
    """A run as the database has it."""

    run: str
    tenant: str
    priority: int
    tasks: tuple[TaskPlan, ...]
    status: str = "queued"
    owner: str = ""
    epoch: int = 0
    parked: str | None = None
    nodes: dict[str, Any] = field(default_factory=dict)
    events: list[Any] = field(default_factory=list)

    @property
    def fields(self) -> Fields:
        """What its hash holds."""
        rest = dict.fromkeys(("workflow", "inputs", "plan"), "{}")
        weight = TENANTS[self.tenant]
        return {"tenant": self.tenant, "weight": weight, "priority": self.priority, **rest, "traceparent": ""}


class Database:
    """Rows by run; every method is one transaction."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self._drawn = 0

    def new(self, row: Row) -> Row:
        """A request again, under an id that no other had."""
        self._drawn += 1
        return Row(**vars(row) | {"run": f"r{self._drawn}"})

    def insert(self, row: Row) -> str:
        """Accept a run; again changes nothing."""
        self.rows.setdefault(row.run, Row(**vars(row)))
        return "ok"

    def get(self, run: str) -> Row | None:
        """A row as it stands now."""
        row = self.rows.get(run)
        return Row(**vars(row)) if row else None

    def open_rows(self, owner: str | None = None) -> list[Row]:
        """Those that have not ended: of one owner, or all."""
        found = [row for row in self.rows.values() if row.status not in ENDED and owner in (None, row.owner)]
        return [Row(**vars(row)) for row in found]

    def take_over(self, run: str, owner: str, epoch: int) -> bool:
        """Compare and set the epoch."""
        row = self.rows[run]
        if row.epoch >= epoch or row.status in ENDED:
            return False
        row.owner, row.epoch, row.status = owner, epoch, "running"
        return True

    def renew(self, run: str, epoch: int) -> bool:
        """Raise the epoch of a run that waits, so that nobody parks what is opened again."""
        row = self.rows[run]
        if row.status != "queued" or row.epoch >= epoch:
            return False
        row.epoch = epoch
        return True

    def end(self, run: str, epoch: int | None, status: str, nodes: dict[str, Any], events: list[Any]) -> bool:
        """Record an end, once."""
        row = self.rows[run]
        if row.status in ENDED or (epoch is not None and row.epoch > epoch):
            return False
        row.status, row.nodes = status, nodes
        row.events += [each for each in events if each not in row.events]
        return True

    def park(self, run: str, epoch: int, nodes: dict[str, Any], events: list[Any]) -> bool:
        """Keep a paused run."""
        row = self.rows[run]
        if row.status in ENDED or row.epoch != epoch:
            return False
        if row.status == "paused":  # kept before; what Redis holds by now may be less
            return True
        row.status, row.nodes, row.parked = "paused", nodes, events[-1][0]
        row.events += [each for each in events if each not in row.events]
        return True

    def resumed(self, run: str, epoch: int) -> None:
        """Forget how it was parked."""
        row = self.rows[run]
        if row.epoch == epoch:
            row.parked = None


async def database(call: Any, *args: Any) -> Any:
    """Look into the database; the world may stop a process there. Raises Unavailable."""
    return await away(Command("db", (call, *args)))


def random_tasks(rng: random.Random) -> tuple[TaskPlan, ...]:
    """Draw a small graph of tasks; two of them may hold a copy of the same node."""
    tasks: list[TaskPlan] = []
    before: list[str] = []
    shared = rng.random() < 0.3
    for index in range(rng.randint(1, 5)):
        name = "abcde"[index]
        nodes = [f"{name}{i}" for i in range(rng.randint(1, 2))]
        if shared and index < 2:
            nodes.insert(0, "t")
        needs = tuple(path for path in before if path != "t" and rng.random() < 0.25)
        patience = rng.choice((0.0, 0.0, 0.0, 6.0))
        tasks.append(TaskPlan(name, rng.choice(QUEUES), tuple(nodes), needs, patience))
        before += nodes
    return tuple(tasks)
