"""Commits of one attempt, in order, one in flight: what becomes ready meanwhile goes together in the next.

A node may start on its predecessor's result before that result's commit returned: both stand under one fence, so the
ledger never holds a child without its parent, and a lost fence refuses both. Bytes that a garbage collection is just
deleting cannot be named: they are written again first.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from spindle_common.problems import Unavailable
from spindle_common.queue import NodeEnd, Queue, Right
from spindle_common.stopping import stop
from spindle_worker import metrics

T = TypeVar("T")
Renew = Callable[[Iterable[str]], Awaitable[None]]
Landed = Callable[[Sequence[NodeEnd]], None]
log = logging.getLogger(__name__)
_AWAY_SECONDS = 0.5


class LostRight(Exception):
    """Another attempt has the task, or the run has ended; says which."""


class Committer:
    """Sends starts and ends of an attempt's nodes.

    `renew` writes bytes again that their outcomes name, `landed` is told what is committed.
    """

    def __init__(self, queue: Queue, right: Right, renew: Renew, landed: Landed | None = None) -> None:
        self._queue, self._right, self._renew, self._landed = queue, right, renew, landed
        self._waiting: list[NodeEnd] = []
        self._in_flight = asyncio.Lock()
        self._sender: asyncio.Task[None] | None = None
        self._last = self._task_ended = False

    def started(self, path: str) -> None:
        """Say that a node starts; it goes out with what becomes ready in the same turn of the loop."""
        self.ended(NodeEnd(path, "", ""), last=False)

    def ended(self, end: NodeEnd, *, last: bool) -> None:
        """Commit a node's end; with the last one the task ends."""
        self._waiting.append(end)
        self._last = self._last or last
        if self._sender is None or self._sender.done():
            self._sender = asyncio.ensure_future(self._send())

    async def _send(self) -> None:
        """Send until nothing waits; the first pause lets a chain of quick nodes gather."""
        await asyncio.sleep(0)
        while self._waiting:
            await self._flush()

    async def _flush(self) -> None:
        async with self._in_flight:
            steps, self._waiting = self._waiting, []
            last = self._last and not self._task_ended
            if not steps and not last:
                return
            answer = await self._commit(steps, last=last)
        if answer == "stale":
            metrics.commits_refused.inc()
        if answer in ("stale", "ended"):
            raise LostRight(answer)
        self._task_ended = self._task_ended or last
        if self._landed:
            self._landed(steps)

    async def _commit(self, steps: Sequence[NodeEnd], *, last: bool) -> str:
        while True:
            answer = await patiently(lambda: self._queue.commit(self._right, steps, last=last))
            if answer != "deleting":
                return answer
            await patiently(lambda: self._renew(step.outcome for step in steps))
            await asyncio.sleep(_AWAY_SECONDS)

    async def finish(self, *, last: bool) -> None:
        """Commit what is left and, with `last`, end the task if that was not done. Raises LostRight."""
        if self._sender is not None:
            await self._sender
        self._last = self._last or last
        await self._flush()

    async def close(self) -> None:
        """Send nothing more: what still waits would come too late."""
        if self._sender is not None:
            await stop([self._sender])
            if not self._sender.cancelled():
                self._sender.exception()  # known already to whoever closes, or of no use any more


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a step until what it needs answers; every step may be repeated."""
    while True:
        try:
            return await call()
        except Unavailable as error:
            log.warning("trying again: %s", error)
            await asyncio.sleep(_AWAY_SECONDS)
