"""How long one call of a node may take, and how long it may say nothing."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from spindle_common.problems import TimedOut
from spindle_common.stopping import stop

T = TypeVar("T")


class Bounds:
    """Seconds for the whole call and for its silences; None: any time."""

    def __init__(self, run: float | None, idle: float | None) -> None:
        self._run, self._idle = run, idle
        self._began = self._last = time.monotonic()

    def heard(self) -> None:
        """Take note of a report: progress, a preview, an artifact; callable from any thread."""
        self._last = time.monotonic()

    async def keep(self, work: Coroutine[Any, Any, T]) -> T:
        """Await a call, from now on bounded. Raises TimedOut, and what the call raises."""
        if self._run is None and self._idle is None:
            return await work
        self._began = self._last = time.monotonic()
        calling = asyncio.ensure_future(work)
        try:
            while not calling.done():
                await asyncio.wait({calling}, timeout=self._left())
            return calling.result()
        finally:
            await stop([calling])

    def _left(self) -> float:
        """Seconds until the nearer bound. Raises TimedOut once one is passed."""
        now = time.monotonic()
        run = float("inf") if self._run is None else self._began + self._run - now
        idle = float("inf") if self._idle is None else self._last + self._idle - now
        if run <= 0:
            raise TimedOut(f"it took longer than {self._run:g} s")
        if idle <= 0:
            raise TimedOut(f"it reported nothing for {self._idle:g} s")
        return min(run, idle)
