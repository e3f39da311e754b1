"""Beats in a thread, with an event loop and a connection of their own: no node of the worker's loop can starve them.

    hold, drop (any thread) -> every beat: renew all that is held -> heard(known, lost), on the worker's loop

A right that could not be renewed for a whole lease, by a clock that nobody sets, counts as lost: by then another
worker may have the task. What Redis says comes first, so a worker that was stopped for a while asks before it gives up.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spindle_common.connection import connect
from spindle_common.problems import Unavailable
from spindle_common.queue import Queue, Right

log = logging.getLogger(__name__)
_JOIN_SECONDS = 2.0
Heard = Callable[[bool, Sequence[Right]], None]


@dataclass(frozen=True)
class Pulse:
    """Whose beats, where to, and how often, in seconds."""

    worker: str
    url: str
    beat: float
    lease: float


class Beats:
    """Keeps a worker known and its rights valid."""

    def __init__(self, pulse: Pulse, heard: Heard) -> None:
        self._pulse, self._heard = pulse, heard
        self._loop = asyncio.get_running_loop()
        self._rights: dict[Right, float] = {}
        self._answered = time.monotonic()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beating, name="beats", daemon=True)

    @property
    def silence(self) -> float:
        """Seconds since Redis last answered a beat."""
        return time.monotonic() - self._answered

    def start(self) -> None:
        """Begin to beat."""
        self._answered = time.monotonic()
        self._thread.start()

    def close(self) -> None:
        """Beat no more."""
        self._stopping.set()
        self._thread.join(_JOIN_SECONDS)

    def hold(self, right: Right) -> None:
        """Renew this right from now on."""
        with self._lock:
            self._rights[right] = time.monotonic()

    def drop(self, right: Right) -> None:
        """Renew it no more."""
        with self._lock:
            self._rights.pop(right, None)

    # In the thread -------------------------------------------------------------------------------------------------

    def _beating(self) -> None:
        queue = Queue(connect(self._pulse.url))
        with asyncio.Runner() as runner:
            while not self._stopping.wait(self._pulse.beat):
                try:
                    runner.run(self._beat(queue))
                except Exception:
                    log.exception("a beat broke")  # the next one may not
            runner.run(queue.client.aclose())

    async def _beat(self, queue: Queue) -> None:
        with self._lock:
            rights = list(self._rights)
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._pulse.lease / 2):
                known, lost = await queue.beat(self._pulse.worker, self._pulse.lease, self._pulse.lease, rights)
        except (Unavailable, TimeoutError) as error:
            log.warning("a beat was lost: %s", error or "Redis does not answer")
            self._tell(True, self._overdue())
            return
        self._answered = time.monotonic()
        with self._lock:
            for right in rights:
                if right in self._rights and right.task not in lost:
                    self._rights[right] = began
        self._tell(known, [right for right in rights if right.task in lost])

    def _overdue(self) -> list[Right]:
        oldest = time.monotonic() - self._pulse.lease
        with self._lock:
            return [right for right, renewed in self._rights.items() if renewed < oldest]

    def _tell(self, known: bool, lost: Sequence[Right]) -> None:
        for right in lost:
            self.drop(right)
        if lost or not known:
            with contextlib.suppress(RuntimeError):  # the worker has ended meanwhile
                self._loop.call_soon_threadsafe(self._heard, known, lost)
