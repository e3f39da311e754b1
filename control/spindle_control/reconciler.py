"""What no other loop can see, looked for every few seconds and put right (design, section 5.9).

    driven runs      gone from Redis -> `state-lost`; paused -> parked; still for a while -> their tasks audited;
                     with none under way -> told what their ledgers say: a wake was lost
    open rows        running without a live driver -> adopted; queued but not in line -> put in line again, or parked
    keys             of runs that nobody looks after any more -> `strays`
    workers          slots counted anew, consumers of dead workers removed

Rows and keys are read a page a round, so that a round costs the same however many there are.
"""

import time
from typing import TYPE_CHECKING

from spindle_control import metrics
from spindle_control.drive import Drive, Parts
from spindle_control.library import Library
from spindle_control.opening import open_run, park_run
from spindle_control.store import ENDED, OpenRun
from spindle_control.strays import Strays

if TYPE_CHECKING:
    from spindle_control.driver import Driver

_STILL_SECONDS = 5.0
_ROWS = 1000


class Reconciler:
    """Goes round; one in each control process."""

    def __init__(self, driver: "Driver", parts: Parts, library: Library) -> None:
        self._driver, self._parts, self._library = driver, parts, library
        self._row = ""
        self._strays = Strays(driver, parts)
        self._idle: dict[str, float] = {}
        self.lag = 0.0

    @property
    def stalled(self) -> dict[str, float]:
        """Driven runs that have nothing under way and do not go on all the same -> seconds since that was noticed."""
        now = time.monotonic()
        return {run: now - since for run, since in self._idle.items()}

    async def round(self) -> None:
        """Look once at everything that is driven here, and at one page of the rest."""
        await self._driven()
        self.lag = await self._parts.queue.unread(self._driver.owner, self._driver.read_until)
        live = await self._parts.queue.live_controls()
        await self._rows(live)
        await self._strays.page(live)
        await self._parts.queue.tidy()

    async def _driven(self) -> None:
        self._idle = {run: since for run, since in self._idle.items() if run in self._driver.drives}
        for run, drive in list(self._driver.drives.items()):
            if drive.still_seconds < _STILL_SECONDS and run not in self._idle:
                continue
            (status,) = await self._parts.queue.run_fields(run, "status")
            if status is None:
                drive.lost()
                continue
            if status == "paused":
                drive.wake({}, status)
            found = await self._parts.queue.audit(run, drive.epoch)
            if isinstance(found, int):
                metrics.mended.labels("task").inc(found)
                await self._prod(run, drive)
            elif found != "parking":  # it ended, or another control has it, and the news of it was lost
                drive.wake({}, status if found == "ended" else found)

    async def _prod(self, run: str, drive: "Drive") -> None:
        if not await self._parts.queue.idle(run):
            self._idle.pop(run, None)
            return
        if run not in self._idle:
            self._idle[run] = time.monotonic()
            metrics.mended.labels("wake").inc()
        drive.wake(await self._parts.queue.ledger(run))

    async def _rows(self, live: set[str]) -> None:
        rows = await self._parts.store.open_page(self._row, _ROWS)
        self._row = rows[-1].id if len(rows) == _ROWS else ""
        for row in rows:
            if self._driver.holds(row.id):
                continue
            if row.status == "running" and row.owner not in live - {self._driver.owner}:
                metrics.mended.labels("run").inc()
                await self._driver.adopt(await self._parts.store.run(row.id))
            elif row.status == "queued":
                await self._waiting(row)

    async def _waiting(self, row: OpenRun) -> None:
        answer = await self._parts.queue.enqueue(row.id)
        if answer == "missing":
            await self._open_again(row)
        elif answer in ("paused", "parking"):  # whoever paused it died before it was parked
            await park_run(self._parts.queue, self._parts.store, row.id, row.epoch)

    async def _open_again(self, row: OpenRun) -> None:
        """Redis lost a run that waited: nothing of it was done, so it waits again."""
        whole = await self._parts.store.run(row.id)
        if whole.status == "queued":
            metrics.mended.labels("run").inc()
            weight = self._parts.settings.weight_of(whole.tenant)
            accepted = (await self._library.accept(whole.tenant, whole.workflow)).accepted
            await open_run(self._parts.queue, whole, accepted.planned, weight)
            if (await self._parts.store.run(row.id)).status in ("paused", *ENDED):  # meanwhile: what we opened is stale
                await self._parts.queue.abandon(row.id, 0.0)
