"""The worker: announces itself, takes tasks while it has free slots, keeps their leases, hands them to attempts.

    register -> [ watch | slot freed ] -> take -> attempt …      beat every 5 s       stop: drain, unregister

Redis away is survived everywhere; a worker that Redis no longer knows (an emptied Redis, a long silence) registers
again, and stops the tasks that it lost.
"""

import asyncio
import contextlib
import logging
import secrets
import socket
import time
from asyncio import FIRST_COMPLETED
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from spindle_common.problems import Crashed, Unavailable
from spindle_common.queue import Right, Taken, compact
from spindle_common.readers import EntryWatch, StopWatch
from spindle_common.stopping import stop
from spindle_worker import metrics
from spindle_worker.attempt import Attempt, Equipment
from spindle_worker.beats import Beats, Pulse
from spindle_worker.settings import WorkerSettings

log = logging.getLogger(__name__)
_AWAY_SECONDS = 0.5
_TURN_SECONDS = 0.5
_CRASHED = compact(Crashed("it broke its attempts as often as its budget allows").problem())
_DRAINED = compact(Crashed("its workers were stopped as often as its budget allows").problem())
_ORDER = {"gpu": 0, "cpu": 1, "async": 2}


class Worker:
    """Takes tasks and runs them, until told to stop."""

    def __init__(self, equipment: Equipment, settings: WorkerSettings, slots: dict[str, int]) -> None:
        self.name = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self._eq, self._settings, self._slots = equipment, settings, slots
        self._queue, self._manifest = equipment.queue, ""
        self._attempts: dict[Attempt, asyncio.Task[None]] = {}
        self._busy: Counter[str] = Counter()
        self._news = asyncio.Event()
        self._stopping, self._hurrying = asyncio.Event(), asyncio.Event()
        pulse = Pulse(self.name, settings.redis, settings.beat_seconds, settings.lease_seconds)
        self._beats = Beats(pulse, self._heard)
        self._registering: asyncio.Task[None] | None = None
        self._registered, self._turned = False, time.monotonic()

    def trouble(self) -> str:
        """Why it is not ready, in words; empty when it is. Callable from any thread."""
        if self._stopping.is_set():
            return "it is stopping"
        if not self._registered:
            return "it is not registered"
        if self._beats.silence > self._settings.lease_seconds:
            return f"its last beat was answered {self._beats.silence:.0f} s ago"
        if (still := time.monotonic() - self._turned) > self._settings.lease_seconds:
            return f"its loop has stood still for {still:.0f} s"
        return ""

    def announce(self, manifest: str) -> None:
        """Set the manifest with which it registers, as JSON text."""
        self._manifest = manifest

    @property
    def expiry(self) -> float:
        """Seconds after which a silent worker counts as dead."""
        return self._settings.lease_seconds

    def stop(self) -> None:
        """Take no more; running tasks have `drain_seconds` to end. The second time: they have none."""
        if self._stopping.is_set():
            self._hurrying.set()
        self._stopping.set()
        self._news.set()

    async def run(self) -> None:
        """Work until `stop`."""
        await self._register()
        self._beats.start()
        loops = [
            asyncio.ensure_future(work)
            for work in (self._watching(), self._listening(), self._taking(), self._turning())
        ]
        await self._stopping.wait()
        await self._drain()
        await stop([*loops, *filter(None, [self._registering])])
        await asyncio.to_thread(self._beats.close)
        with contextlib.suppress(Unavailable):
            await self._queue.unregister(self.name)

    async def _register(self) -> None:
        while True:
            try:
                await self._queue.register(self.name, self.expiry, self._manifest, self._slots)
                self._registered = True
                return
            except Unavailable as error:
                log.warning("cannot register yet: %s", error)
                await asyncio.sleep(_AWAY_SECONDS)

    async def _drain(self) -> None:
        running = list(self._attempts.values())
        if running:
            log.info("waiting for %d tasks to end", len(running))
            hurrying = asyncio.ensure_future(self._hurrying.wait())
            ended = asyncio.ensure_future(asyncio.wait(running))
            await asyncio.wait({ended, hurrying}, timeout=self._settings.drain_seconds, return_when=FIRST_COMPLETED)
            await stop([ended, hurrying])
        await asyncio.gather(*map(self._hand_back, list(self._attempts)))
        await stop(list(self._attempts.values()))

    async def _hand_back(self, attempt: Attempt) -> None:
        attempt.cancel()
        with contextlib.suppress(Unavailable):
            await self._queue.give_back(attempt.right, "drain", spent=_DRAINED)

    # Taking --------------------------------------------------------------------------------------------------------

    def _free(self) -> dict[str, int]:
        ordered = sorted(self._slots.items(), key=lambda item: (_ORDER.get(item[0].split(".")[0], 1), item[0]))
        return {queue: slots - self._busy[queue] for queue, slots in ordered if slots > self._busy[queue]}

    async def _taking(self) -> None:
        while not self._stopping.is_set():
            self._news.clear()
            free = self._free()
            taken = await self._take(free) if free else []
            if not taken:
                await self._news.wait()

    async def _take(self, free: dict[str, int]) -> list[Taken]:
        nonce = secrets.token_hex(8)
        while True:
            try:
                taken = await self._queue.take(self.name, nonce, self._settings.lease_seconds, free)
                break
            except Unavailable:
                await asyncio.sleep(_AWAY_SECONDS)
        for one in taken:
            self._begin(one, nonce)
        return taken

    def _begin(self, taken: Taken, nonce: str) -> None:
        self._busy[taken.queue] += 1
        metrics.slots_busy.labels(taken.queue).set(self._busy[taken.queue])
        attempt = Attempt(taken, Right(taken.task, taken.attempt, nonce), self._eq)
        self._beats.hold(attempt.right)
        self._attempts[attempt] = asyncio.create_task(self._attend(attempt), name=f"task {taken.task}")

    async def _attend(self, attempt: Attempt) -> None:
        try:
            await attempt.run()
        except Exception:
            log.exception("an attempt broke", extra={"task": attempt.taken.task})
            with contextlib.suppress(Unavailable):
                await self._queue.give_back(attempt.right, "crash", spent=_CRASHED)
        finally:
            self._beats.drop(attempt.right)
            queue = attempt.taken.queue
            self._busy[queue] -= 1
            metrics.slots_busy.labels(queue).set(self._busy[queue])
            self._attempts.pop(attempt, None)
            self._news.set()

    # Keeping in touch ----------------------------------------------------------------------------------------------

    def _heard(self, known: bool, lost: Sequence[Right]) -> None:
        for attempt in [attempt for attempt in self._attempts if attempt.right in lost]:
            log.warning("lost the right to a task", extra={"task": attempt.taken.task})
            attempt.cancel()
        if not known and self._registering is None and not self._stopping.is_set():
            log.warning("Redis does not know this worker: registering again")
            self._registered = False
            self._registering = asyncio.create_task(self._register_again())

    async def _register_again(self) -> None:
        await self._register()
        self._registering = None
        self._news.set()

    async def _turning(self) -> None:
        """Show that the loop goes round: what blocks it shows as trouble."""
        while True:
            self._turned = time.monotonic()
            await asyncio.sleep(_TURN_SECONDS)

    async def _watching(self) -> None:
        async def watch() -> None:
            watch = EntryWatch(self._settings.redis)
            try:
                while True:
                    await watch.wait(list(self._slots))
                    self._news.set()
            finally:
                await watch.close()

        await _again(watch)

    async def _listening(self) -> None:
        def heard(run: str) -> None:
            for attempt in self._attempts:
                if attempt.taken.run == run:
                    attempt.cancel()

        async def listen() -> None:
            stops = StopWatch(self._settings.redis, heard)
            try:
                await stops.listen()
            finally:
                await stops.close()

        await _again(listen)


async def _again(work: Callable[[], Awaitable[None]]) -> None:
    """Repeat a loop on a blocking connection whenever Redis was away."""
    while True:
        try:
            await work()
        except Unavailable as error:
            log.warning("Redis is away: %s", error)
            await asyncio.sleep(_AWAY_SECONDS)
