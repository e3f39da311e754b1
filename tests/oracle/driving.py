"""A drawn workflow, driven for real: `Drive` on a real Redis, its drivers dropped at random steps, workers simulated.

    run = Rig(server, store, artifacts)      what runs share
    await rig.drive(case, rng)               opens, drives, crashes, adopts, to the end -> Seen

A dropped driver does nothing more: the step during which it dies never returns, and the next one finds what Redis and
the database hold. In some runs values spill as soon as they are lists, and in some a run leaves Redis whenever it waits
for nothing but answers; then Redis may be emptied, and the run is brought back.
"""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from oracle.drawing import Case
from oracle.nodes import oracle_catalog
from oracle.working import Workers
from spindle_common import spill
from spindle_common.digests import digest
from spindle_common.queue import Queue
from spindle_common.readers import DriveReader
from spindle_common.spill import Bytes, Spill
from spindle_common.stopping import stop
from spindle_control.compiler import bind_inputs, check, plan
from spindle_control.drive import Drive, Parts, archive
from spindle_control.opening import open_run, planned_of, restore_run
from spindle_control.planner import Planned
from spindle_control.settings import ControlSettings
from spindle_control.store import ENDED, RunRow, Store
from support.rows import a_run

Json = dict[str, Any]
_ALL_EVENTS = 100_000
_EVER = 1 << 30


class FrailQueue(Queue):
    """A driver's steps; at one of them the driver dies, before it is done or before its reply arrives."""

    def __init__(self, client: Any, dies_at: int, *, replyless: bool) -> None:
        super().__init__(client)
        self._left, self._replyless = dies_at, replyless
        self.died, self._never = asyncio.Event(), asyncio.Event()

    async def _step(self, *args: str | float) -> Any:
        self._left -= 1
        if self._left == 0 and self._replyless:
            await super()._step(*args)
        if self._left <= 0:
            self.died.set()
            await self._never.wait()
        return await super()._step(*args)


@dataclass
class Seen:
    """What came of a run, its values whole."""

    row: RunRow
    events: list[Json]
    twice: list[str]
    lives: "Lives"


@dataclass
class Lives:
    """A run's drivers: how many of them died, how often it was parked, and frames that they left open."""

    died: int = 0
    parked: int = 0
    frames: set[str] = field(default_factory=set)


class Rig:
    """What the runs of a test share."""

    def __init__(self, url: str, queue: Queue, store: Store, artifacts: Bytes) -> None:
        self._url, self._queue, self._store, self._artifacts = url, queue, store, artifacts
        self._catalog = oracle_catalog()
        self._dropped: list[FrailQueue] = []  # else what still waits for them is collected as garbage, loudly

    async def drive(
        self, case: Case, rng: random.Random, held: str | None = None, unheld: set[str] | None = None
    ) -> Seen:
        """Run a case to its end; a node that is `held` ends only once all of `unheld` have. Raises TimeoutError."""
        row = await self._opened(case, f"r{rng.getrandbits(60):015x}", chains=rng.random() < 0.7)
        workers = Workers(self._queue, row.id, rng, self._artifacts)
        workers.held, parks = held, rng.random() < 0.4
        workers.eager = 0.1 if parks else 0.7
        with spilling(4 if rng.random() < 0.5 else spill.INLINE_BYTES):
            await workers.register()
            working = asyncio.ensure_future(workers.work())
            releasing = asyncio.ensure_future(_release(workers, unheld or set()))
            try:
                async with asyncio.timeout(300):
                    lives = await self._driven(row, rng, workers, working, parks=parks)
            finally:
                await stop([working, releasing])
        return await self._seen(row.id, workers, lives)

    async def _seen(self, run: str, workers: Workers, lives: Lives) -> Seen:
        row, whole = await self._store.run(run), Spill(self._artifacts)
        outputs = await whole.whole(row.outputs or {})
        row = replace(row, nodes=await whole.fetch(row.nodes or {}), outputs=outputs)
        events = await self._store.archived_events(run, limit=_ALL_EVENTS)
        return Seen(row, events or [], workers.twice, lives)

    async def _opened(self, case: Case, run: str, *, chains: bool) -> RunRow:
        checked = check(case.document, self._catalog, library=case.library)
        made = plan(checked, self._catalog, chains=chains)
        planned = Planned.make(made, frozenset())
        inputs = bind_inputs(checked, case.inputs)
        row = a_run(run, status="running", owner="c1", epoch=1, workflow=made.workflow, inputs=inputs)
        await self._store.insert_run(replace(row, workflow_digest=digest(case.document)))
        await open_run(self._queue, row, planned, 1.0)
        return row

    async def _driven(
        self, row: RunRow, rng: random.Random, workers: Workers, working: "asyncio.Future[None]", *, parks: bool
    ) -> Lives:
        """Drive a run by one driver after another."""
        crashes, lives = rng.choice((0, 0, 1, 2, 4)), Lives()
        settings = ControlSettings(linger_seconds=0.02 if parks else 3600.0, archive_seconds=600.0)
        while True:
            dies = rng.randint(1, 14) if lives.died < crashes else _EVER
            queue = FrailQueue(self._queue.client, dies, replyless=rng.random() < 0.5)
            self._dropped.append(queue)
            parts = Parts(queue, self._store, self._artifacts, settings)
            driving = asyncio.ensure_future(self._by(parts, row.id, lives))
            dying = asyncio.ensure_future(queue.died.wait())
            try:
                waited: set[asyncio.Future[Any]] = {driving, dying, working}
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if working.done():
                    working.result()
                if driving.done():
                    driving.result()
            finally:
                await stop([driving, dying])
            lives.died += queue.died.is_set()
            status = (await self._store.run(row.id)).status
            if status in ENDED and not queue.died.is_set():
                return lives
            if status == "paused":
                lives.parked += 1
                await self._rest(rng, workers)

    async def _rest(self, rng: random.Random, workers: Workers) -> None:
        """Nothing of a parked run is needed in Redis."""
        if rng.random() < 0.3:
            await self._queue.client.flushall()
            await workers.register()

    async def _by(self, parts: Parts, run: str, lives: Lives) -> None:
        """One driver's life, as `Driver.adopt`, `restore` and `_drive` have it."""
        queue, row = parts.queue, await self._store.run(run)
        owner = f"{run}c{row.epoch + 1}"
        if not await self._store.take_over(run, owner, row.epoch + 1, parked=row.status == "paused"):
            return
        row = await self._store.run(run)
        if row.parked is not None:
            if await restore_run(queue, row, 1.0) == "exists":
                await queue.own(run, owner, row.epoch)
            await self._store.resumed(run, row.epoch)
        elif await queue.own(run, owner, row.epoch) != "owned":
            await archive(parts, row, row.epoch, None)
            return
        async with _heard(self._url, owner) as reader:
            drive = Drive(row, await planned_of(queue, run), parts)
            reader.tell(run, drive)
            await drive.run(await queue.ledger(run))
        lives.frames |= set(drive._walking.frames._open) - {""}


@contextlib.contextmanager
def spilling(most: int) -> Iterator[None]:
    """Have values spill that are longer than so many bytes."""
    before, spill.INLINE_BYTES = spill.INLINE_BYTES, most
    try:
        yield
    finally:
        spill.INLINE_BYTES = before


class _Ear:
    """Reads a driver's stream."""

    def __init__(self, reader: DriveReader) -> None:
        self._reader = reader
        self.reading: asyncio.Future[None] | None = None

    def tell(self, run: str, drive: Drive) -> None:
        """Wake a drive by what is read."""
        self.reading = asyncio.ensure_future(self._read(run, drive))

    async def _read(self, run: str, drive: Drive) -> None:
        while True:
            for wake in await self._reader.read():
                if wake.run == run:
                    drive.wake(wake.outcomes, wake.news)


@contextlib.asynccontextmanager
async def _heard(url: str, owner: str) -> AsyncIterator[_Ear]:
    reader = DriveReader(url, owner)
    ear = _Ear(reader)
    try:
        yield ear
    finally:
        if ear.reading is not None:
            await stop([ear.reading])
        await reader.close()


async def _release(workers: Workers, unheld: set[str]) -> None:
    """Let go of what is held back once everything else has ended; whoever waited for it in vain never ends."""
    while workers.held is not None:
        if unheld <= workers.ended:
            workers.held = None
        await asyncio.sleep(0.002)


ENDS = frozenset({"node.completed", "node.failed", "node.skipped"})


def artifacts_in(folder: Path) -> Bytes:
    """Return a store for values that are too large."""
    from spindle_common.artifacts.directory import DirectoryStore

    return DirectoryStore(folder)
