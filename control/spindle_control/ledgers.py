"""A run's ledger, wherever it is: in Redis while the run is there, else in its row. Reads only what is asked for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from spindle_common.queue import Queue
from spindle_common.values import Outcome
from spindle_control.rows import Json, RunRow
from spindle_control.tables import ENDED


@dataclass(frozen=True)
class Ledger:
    """The outcomes of a run by path; `status` is the run's by whoever knows best."""

    queue: Queue
    row: RunRow
    status: str
    live: bool

    @classmethod
    async def of(cls, queue: Queue, row: RunRow) -> "Ledger":
        """Find out where it is. Raises Unavailable."""
        if row.status in ENDED:
            return cls(queue, row, row.status, live=False)
        (status,) = await queue.run_fields(row.id, "status")
        if status is None:
            return cls(queue, row, row.status, live=False)
        return cls(queue, row, "paused" if status == "parking" else status, live=True)

    @property
    def kept(self) -> Mapping[str, Outcome]:
        """What the row has of it."""
        return self.row.nodes or {}

    async def paths(self) -> Iterable[str]:
        """Every path that has an outcome. Raises Unavailable."""
        return await self.queue.paths(self.row.id) if self.live else self.kept.keys()

    async def statuses(self) -> Mapping[str, str]:
        """Status by path. Raises Unavailable."""
        if self.live:
            return await self.queue.statuses(self.row.id)
        return {path: outcome["status"] for path, outcome in self.kept.items()}

    async def outcomes(self, paths: Sequence[str]) -> dict[str, Outcome]:
        """Outcomes of some paths, of those that have one. Raises Unavailable."""
        if not paths:
            return {}
        if self.live:
            return await self.queue.nodes(self.row.id, paths)
        return {path: self.kept[path] for path in paths if path in self.kept}

    async def ticks(self, paths: Sequence[str]) -> dict[str, Json]:
        """Last progress of some paths. Raises Unavailable."""
        return await self.queue.ticks_of(self.row.id, paths) if self.live and paths else {}
