"""The driver: this control's runs, its lease, and what it does for runs and tasks that nobody looks after.

Six loops, each of which outlives Redis or the database being away:

    beat       renew our lease
    wake       read drive:{owner} and hand commits to the runs concerned; after an interruption read their ledgers
    sweep      due timers, lapsed leases, tasks that waited too long, dead workers; adopt the runs of silent controls
    fill       take waiting runs while there is room
    due        bring back parked runs whose questions nobody answered in time
    reconcile  what the others cannot see: see `reconciler`

Whoever takes a run raises the epoch in its row by compare-and-set, then in its hash, which accepts only a higher one.
"""

import asyncio
import contextlib
import logging
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

from spindle_common.problems import Crashed, NotFound, SpindleError, TimedOut, Unavailable
from spindle_common.readers import DriveReader
from spindle_common.stopping import stop
from spindle_control import metrics
from spindle_control.drive import Drive, Ending, Parts, archive
from spindle_control.library import Library
from spindle_control.opening import open_run, planned_of, restore_run
from spindle_control.reconciler import Reconciler
from spindle_control.store import RunRow

log = logging.getLogger(__name__)
_SWEEP_SECONDS = 0.5
_FILL_SECONDS = 0.25
_DUE_SECONDS = 1.0
_DUE_AT_ONCE = 64
_RECONCILE_SECONDS = 5.0
_AWAY_SECONDS = 0.5
_ADOPT_AT_ONCE = 16
_WAITED = TimedOut("no worker took it within the time that it may wait").problem()
_CRASHED = Crashed("the worker that ran it died, or fell silent, as often as its budget allows").problem()


class Driver:
    """Drives runs; one in each control process."""

    def __init__(self, parts: Parts, library: Library, redis_url: str) -> None:
        self.owner = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self._parts, self._library, self._url = parts, library, redis_url
        self._drives: dict[str, Drive] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._reserved: set[str] = set()
        self._rounds: dict[str, float] = {}
        self._crowded, self._freed = False, asyncio.Event()
        self._reconciler = Reconciler(self, parts, library)
        self._reader = DriveReader(redis_url, self.owner)

    @property
    def drives(self) -> Mapping[str, Drive]:
        """Runs in our hands."""
        return self._drives

    def holds(self, run: str) -> bool:
        """Whether a run is in our hands, or about to be."""
        return run in self._tasks or run in self._reserved

    @property
    def has_room(self) -> bool:
        """Whether another run may be driven here."""
        return len(self._tasks) + len(self._reserved) < self._parts.settings.max_driven_runs

    def admits(self) -> bool:
        """Whether a new run may be driven here at once: there is room, and none that waits has a better right to it."""
        self._crowded = self._crowded or not self.has_room
        return not self._crowded

    @property
    def silences(self) -> Mapping[str, float]:
        """Seconds since each of our loops last went round; none before they began."""
        now = time.monotonic()
        return {name: now - at for name, at in self._rounds.items()}

    @property
    def silence(self) -> float:
        """Seconds since the slowest of our loops last went round, the reconciler apart."""
        return max((age for name, age in self.silences.items() if name != "reconcile"), default=0.0)

    @property
    def read_until(self) -> str:
        """The last entry of our stream that was read."""
        return self._reader.last

    @property
    def reconciler(self) -> Reconciler:
        """What it found."""
        return self._reconciler

    @property
    def reconciler_age(self) -> float:
        """Seconds since the reconciler last finished, or since our start."""
        return self.silences.get("reconcile", 0.0)

    async def begin(self) -> None:
        """Take our lease, before any run can be ours. Raises Unavailable."""
        await self._parts.queue.control_beat(self.owner, self._parts.settings.control_lease_seconds)

    async def run(self) -> None:
        """Run every loop until cancelled; then let others have our runs at once."""
        beat = self._parts.settings.control_beat_seconds
        self._rounds = dict.fromkeys(("beat", "sweep", "fill", "due", "reconcile", "wake"), time.monotonic())
        work = (
            self._every("beat", beat, self._beat),
            self._every("sweep", _SWEEP_SECONDS, self._sweep),
            self._every("fill", _FILL_SECONDS, self._fill, self._freed),
            self._every("due", _DUE_SECONDS, self._due),
            self._every("reconcile", _RECONCILE_SECONDS, self._reconciler.round),
            self._wakes(),
        )
        loops = [asyncio.create_task(each) for each in work]
        try:
            await asyncio.wait(loops, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stop(loops)
            await self._leave()

    async def _leave(self) -> None:
        await stop(list(self._tasks.values()))
        with contextlib.suppress(Unavailable):
            await self._parts.queue.control_beat(self.owner, -1.0)

    async def _every(
        self, name: str, seconds: float, work: Callable[[], Awaitable[None]], early: asyncio.Event | None = None
    ) -> None:
        while True:
            try:
                await work()
                self._rounds[name] = time.monotonic()
            except Unavailable as error:
                log.warning("%s: %s", name, error)
            except Exception:
                log.exception("%s failed", name)
            if early is None:
                await asyncio.sleep(seconds)
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(early.wait(), seconds)
            early.clear()

    # Starting ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reserve(self, run: str) -> Iterator[None]:
        """Keep our own reconciler from adopting a run between its row's being written and its being started."""
        self._reserved.add(run)
        try:
            yield
        finally:
            self._reserved.discard(run)

    def start(self, row: RunRow, *, fresh: bool) -> None:
        """Drive a run that is ours in row and hash; a fresh one has nothing in its ledger but what `row.nodes` says."""
        task = asyncio.create_task(self._drive(row, fresh), name=f"drive {row.id}")
        self._tasks[row.id] = task
        metrics.runs_driven.set(len(self._tasks))

    async def _drive(self, row: RunRow, fresh: bool) -> None:
        try:
            planned = self._library.known(row) or await planned_of(self._parts.queue, row.id)
            drive = Drive(row, planned, self._parts)
            self._drives[row.id] = drive
            if not fresh:  # news that came before we listened went nowhere
                await self._look(row.id, drive)
            await drive.run((row.nodes or {}) if fresh else await self._parts.queue.ledger(row.id))
        except SpindleError as error:
            await self._unplannable(row, error)
        except Exception:
            log.exception("driving failed", extra={"run": row.id})
        finally:
            if self._tasks.get(row.id) is asyncio.current_task():  # else it was parked, and goes on in another drive
                self._drives.pop(row.id, None)
                self._tasks.pop(row.id, None)
            if self._crowded:
                self._freed.set()
            metrics.runs_driven.set(len(self._tasks))

    async def _unplannable(self, row: RunRow, error: SpindleError) -> None:
        """End a run that was accepted but can no longer be planned: a node type that it used was withdrawn."""
        log.error("the run cannot be driven: %s", error, extra={"run": row.id})
        if isinstance(error, Unavailable):
            return
        ending = Ending("failed", problem=error.problem())
        await self._parts.queue.finish(row.id, row.epoch, ending.status, ending.data)
        await archive(self._parts, row, row.epoch, ending)

    async def adopt(self, row: RunRow) -> None:
        """Take a run over from nobody, or from a control that fell silent; not one that was parked meanwhile."""
        queued, epoch = row.status == "queued", row.epoch + 1
        if not await self._parts.store.take_over(row.id, self.owner, epoch, parked=False):
            return
        row = await self._parts.store.run(row.id)
        if row.parked is not None:  # whoever was resuming it died, or Redis went away, in between
            await self._bring_back(row)
            return
        answer = await self._parts.queue.own(row.id, self.owner, epoch)
        if answer == "missing" and queued:
            planned = (await self._library.accept(row.tenant, row.workflow)).accepted.planned
            await open_run(self._parts.queue, row, planned, self._parts.settings.weight_of(row.tenant))
            answer = "owned"
        if answer in ("owned", "paused"):
            self.start(row, fresh=False)
        elif answer in ("ended", "missing"):
            await archive(self._parts, row, epoch, None)

    async def restore(self, row: RunRow) -> bool:
        """Go on with a run that is parked in the database; False if someone else does, or it was never parked."""
        if row.parked is None or not await self._parts.store.take_over(row.id, self.owner, row.epoch + 1, parked=True):
            return False
        with self.reserve(row.id):
            await self._bring_back(await self._parts.store.run(row.id))
        return True

    async def _bring_back(self, row: RunRow) -> None:
        """Rebuild a parked run whose row is ours, and drive it; done before, it only gets its new driver."""
        queue = self._parts.queue
        if await restore_run(queue, row, self._parts.settings.weight_of(row.tenant)) == "exists":
            await queue.own(row.id, self.owner, row.epoch)
        await self._parts.store.resumed(row.id, row.epoch)
        self.start(row, fresh=False)

    # Loops ---------------------------------------------------------------------------------------------------------

    async def _beat(self) -> None:
        await self._parts.queue.control_beat(self.owner, self._parts.settings.control_lease_seconds)

    async def _adopt_from(self, owner: str) -> None:
        rows = [row for row in await self._parts.store.open_runs(owner) if row.status == "running"]
        log.warning("control %s fell silent: adopting %d runs", owner, len(rows))
        for start in range(0, len(rows), _ADOPT_AT_ONCE):
            await asyncio.gather(*(self.adopt(row) for row in rows[start : start + _ADOPT_AT_ONCE]))
        await self._parts.queue.control_gone(owner)

    async def _sweep(self) -> None:
        swept = await self._parts.queue.sweep(_CRASHED, _WAITED)
        for owner in swept.controls:
            if owner != self.owner:
                await self._adopt_from(owner)

    async def _fill(self) -> None:
        while self.has_room:
            run = await self._parts.queue.next_waiting()
            if run is None:
                self._crowded = False
                return
            try:
                row = await self._parts.store.run(run)
            except NotFound:  # its row is about to be written
                await self._parts.queue.enqueue(run)
                return
            if row.status == "queued":
                await self.adopt(row)

    async def _due(self) -> None:
        for run in await self._parts.store.due_runs(await self._parts.queue.time(), _DUE_AT_ONCE):
            await self.restore(await self._parts.store.run(run))

    async def _wakes(self) -> None:
        try:
            while True:
                try:
                    for wake in await self._reader.read():
                        if drive := self._drives.get(wake.run):
                            drive.wake(wake.outcomes, wake.news)
                    self._rounds["wake"] = time.monotonic()
                    continue
                except Unavailable as error:
                    log.warning("wake: %s", error)
                except Exception:  # an entry that we cannot read must not stop all the others
                    log.exception("wake failed")
                await asyncio.sleep(_AWAY_SECONDS)
                await self._rescan(list(self._drives.items()))
        finally:
            await self._reader.close()

    async def _rescan(self, drives: Iterable[tuple[str, Drive]]) -> None:
        with contextlib.suppress(Unavailable):
            for run, drive in drives:
                drive.wake(await self._parts.queue.ledger(run))
                await self._look(run, drive)

    async def _look(self, run: str, drive: Drive) -> None:
        """Tell a drive how its run stands."""
        (status,) = await self._parts.queue.run_fields(run, "status")
        if status not in (None, "parking"):
            drive.wake({}, "resumed" if status == "running" else status)
