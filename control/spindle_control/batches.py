"""What many ask for in the same turn of the loop, done in one round trip."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from spindle_common.problems import Unavailable
from spindle_common.stopping import stop

T = TypeVar("T")
_AWAY_SECONDS = 1.0


class Fenced(Exception):
    """Another driver has this run, or it has ended: stop driving it; says what the script answered."""


class Batches(Generic[T]):
    """Sends what is added, together with what is added in the same turn; repeated while Redis is away."""

    def __init__(self, send: Callable[[list[T]], Awaitable[str]]) -> None:
        self._step = send
        self._waiting: list[T] = []
        self._flush: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()

    async def add(self, *items: T) -> None:
        """Send items; returns once they were taken. Raises Fenced when this driver has lost the run."""
        self._waiting.extend(items)
        if self._flush is None:
            self._flush = asyncio.ensure_future(self._send())
            self._sending.add(self._flush)
            self._flush.add_done_callback(self._sent)
        await asyncio.shield(self._flush)

    def _sent(self, sending: asyncio.Task[None]) -> None:
        self._sending.discard(sending)
        if not sending.cancelled():
            sending.exception()  # those that wait for it hear of it; nobody may be left to

    async def close(self) -> None:
        """Stop what is on its way: the run is no longer ours to drive, and the script refuses what comes late."""
        await stop(list(self._sending))

    async def _send(self) -> None:
        await asyncio.sleep(0)
        items, self._waiting, self._flush = self._waiting, [], None
        while True:
            try:
                answer = await self._step(items)
            except Unavailable:
                await asyncio.sleep(_AWAY_SECONDS)
                continue
            if answer != "ok":
                raise Fenced(answer)
            return
