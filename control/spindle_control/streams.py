"""Sending a run's events to whoever watches, over a WebSocket or as server-sent events.

    RunService.watch --events--> pump --text--> one outlet (a socket, a response)

A watcher is sent events as it reads them: what waits for it is bounded by the transport's buffer and its subscription.
One that reads nothing for `SLOW_SECONDS` gets `bye` with where to resume, and is closed; so is everybody when the
control stops. Each event is encoded once, however many watch.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from enum import Enum
from typing import Any, cast

from prometheus_client import Gauge
from starlette.websockets import WebSocketDisconnect

from spindle_common.problems import InvalidRequest, SpindleError, TooManyRequests
from spindle_control import http_metrics
from spindle_control.tables import cursor

SLOW_SECONDS = 10.0
_BYE_SECONDS = 2.0
_ENCODED = 256

Json = dict[str, Any]
Send = Callable[[str, str | None], Awaitable[None]]
"""Sends an event's text; its id where it has one."""

log = logging.getLogger(__name__)


class End(Enum):
    """Why a stream ended."""

    COMPLETE = "complete"
    GONE = "gone"
    SLOW = "slow"
    STOPPING = "stopping"
    UNAVAILABLE = "unavailable"


class Streams:
    """All open streams of this control."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.open = 0
        self._texts: OrderedDict[int, tuple[Json, str]] = OrderedDict()
        self.stopping = asyncio.Event()

    @contextlib.contextmanager
    def room(self, gauge: Gauge) -> Iterator[None]:
        """Count a stream while it is open; `TooManyRequests` when as many are open as are allowed."""
        if self.open >= self._limit:
            raise TooManyRequests(f"{self._limit} streams are open, more are not allowed.", retry_after=5)
        self.open += 1
        gauge.inc()
        try:
            yield
        finally:
            self.open -= 1
            gauge.dec()

    def text(self, event: Json) -> str:
        """Encode an event; watchers of one run are handed the same one, so that it is encoded once."""
        kept = self._texts.get(id(event))
        if kept and kept[0] is event:
            return kept[1]
        text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
        self._texts[id(event)] = (event, text)
        if len(self._texts) > _ENCODED:
            self._texts.popitem(last=False)
        return text

    async def deliver(
        self, run: str, events: AsyncIterator[Json], send: Send, gone: Callable[[], Awaitable[None]]
    ) -> End:
        """Send events until they end, the watcher is `gone` or too slow, or the control stops."""
        watcher = _Watcher(self, run, send)
        pump = asyncio.ensure_future(watcher.pump(events))
        others = [asyncio.ensure_future(gone()), asyncio.ensure_future(self.stopping.wait())]
        try:
            while not watcher.stuck and not any(task.done() for task in (pump, *others)):
                await asyncio.wait([pump, *others], timeout=SLOW_SECONDS / 5, return_when=asyncio.FIRST_COMPLETED)
            end = End.SLOW if watcher.stuck else _end_of(pump, others[0].done())
        finally:
            for task in (pump, *others):
                task.cancel()
            await asyncio.gather(pump, *others, return_exceptions=True)
        if end not in (End.COMPLETE, End.GONE):
            await watcher.bye(end)
        return end


class _Watcher:
    def __init__(self, streams: Streams, run: str, send: Send) -> None:
        self._streams, self._run, self._send = streams, run, send
        self._last: str | None = None
        self._sending_since: float | None = None

    @property
    def stuck(self) -> bool:
        """Whether it reads nothing; asked now and then, since a timer for each event costs a tenth of its sending."""
        return self._sending_since is not None and time.monotonic() - self._sending_since > SLOW_SECONDS

    async def pump(self, events: AsyncIterator[Json]) -> End:
        async with contextlib.aclosing(cast(AsyncGenerator[Json, None], events)):
            async for event in events:
                if event["type"] == "bye":
                    return End.SLOW
                self._sending_since = time.monotonic()
                await self._send(self._streams.text(event), event.get("id"))
                self._sending_since = None
                if "id" in event:
                    self._last = event["id"]
                    http_metrics.websocket_lag.observe(max(0.0, time.time() - cursor(event["id"])[0] / 1000))
        return End.COMPLETE

    async def bye(self, end: End) -> None:
        """Tell the watcher where to resume, if it still reads."""
        if end is End.SLOW:
            http_metrics.slow_watchers.inc()
        data = {"reason": end.value} | ({"after": self._last} if self._last else {})
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        event = {"type": "bye", "run": self._run, "time": now, "data": data}
        with contextlib.suppress(TimeoutError, OSError, RuntimeError, WebSocketDisconnect):
            async with asyncio.timeout(_BYE_SECONDS):
                await self._send(json.dumps(event, separators=(",", ":")), None)


def _end_of(pump: asyncio.Future[End], gone: bool) -> End:
    """Tell why the first of the tasks ended; a problem on the way is told by `bye`, a vanished watcher by nothing."""
    if gone:
        return End.GONE
    if not pump.done():
        return End.STOPPING
    error = pump.exception()
    if error is None:
        return pump.result()
    if isinstance(error, OSError | WebSocketDisconnect):
        return End.GONE
    if not isinstance(error, SpindleError):
        log.error("a stream of events failed", exc_info=error)
    return End.UNAVAILABLE


def valid_cursor(after: str | None) -> str | None:
    """Return the cursor as it is. Raises `InvalidRequest` where it is none."""
    if after is None or after == "":
        return None
    ms, seq = cursor(after)
    if max(ms, seq) >= 2**63:
        raise InvalidRequest(f"{after[:80]!r} is not an event id.")
    return after
