"""Ticks and previews of one attempt: lossy, coalesced, off the node's path.

A node's thread hands over the newest tick or picture and goes on; at most one of each path and kind waits. Their
answers are also how a running node learns that its task is no longer wanted.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from spindle_common.problems import Unavailable
from spindle_common.queue import Queue, Right, compact
from spindle_worker.previews import preview_data

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

log = logging.getLogger(__name__)
_TICK_SECONDS = 0.02


class Reporter:
    """Publishes progress and previews while its attempt runs."""

    def __init__(self, queue: Queue, right: Right, unwanted: Callable[[], None]) -> None:
        self._queue, self._right, self._unwanted = queue, right, unwanted
        self._loop = asyncio.get_running_loop()
        self._newest: dict[tuple[str, str], Any] = {}
        self._task: asyncio.Task[None] | None = None

    def progress(self, path: str, tick: dict[str, Any]) -> None:
        """Take a tick; callable from any thread."""
        self._loop.call_soon_threadsafe(self._put, path, "node.progress", tick)

    def preview(self, path: str, picture: "Picture") -> None:
        """Take a picture; callable from any thread."""
        self._loop.call_soon_threadsafe(self._put, path, "node.preview", picture)

    def encoded(self, path: str, preview: dict[str, Any]) -> None:
        """Take a preview that was encoded elsewhere."""
        self._put(path, "node.preview", preview)

    def _put(self, path: str, kind: str, what: Any) -> None:
        self._newest[path, kind] = what
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._publish())

    async def _publish(self) -> None:
        while self._newest:
            waiting, self._newest = self._newest, {}
            for (path, kind), what in waiting.items():
                await self._send(path, kind, what)
            await asyncio.sleep(_TICK_SECONDS)

    async def _send(self, path: str, kind: str, what: Any) -> None:
        data = what if isinstance(what, dict) else await asyncio.to_thread(preview_data, what)
        try:
            answer = await self._queue.tick(self._right, path, kind, compact(data), keep=kind == "node.progress")
        except Unavailable as error:
            log.debug("a tick was lost: %s", error)
            return
        if answer in ("stale", "ended"):
            self._unwanted()

    async def close(self) -> None:
        """Publish what waits; the attempt is over."""
        if self._task is not None:
            await self._task
