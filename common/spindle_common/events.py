"""A run's events: reading them, and following them live.

Durable events are entries of the run's stream; their ids are the cursor everywhere, and compare as two integers.
Ticks and previews come by pub/sub only and have no id. To follow without a gap: subscribe, then range from the
cursor, then follow by id; whenever the subscription was interrupted, range again.

    Redis --one connection--> Hub --bounded queue each--> Subscription (one per socket)
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from redis.asyncio.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError

from spindle_common import keys
from spindle_common.connection import away, connect
from spindle_common.problems import Unavailable
from spindle_common.stopping import stop

Event = dict[str, Any]
log = logging.getLogger(__name__)
START = "0-0"
RUN_ENDS = frozenset({"run.completed", "run.failed", "run.cancelled"})
_RETRY_SECONDS = 0.5
_CONFIRM_SECONDS = 20.0
_READ_SECONDS = 5.0


class Lagging(Exception):
    """A subscriber's queue ran over: it must range again, or be told goodbye."""


class Interrupted(Exception):
    """The subscription was made anew: events may have been missed, range again."""


def cursor(text: str) -> tuple[int, int]:
    """Read a cursor as the two integers that it is. Raises ValueError."""
    first, _, second = text.partition("-")
    return int(first), int(second or 0)


@lru_cache(maxsize=1024)
def rfc3339(ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339, in UTC; events of one step share theirs."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shape(run: str, raw: Mapping[str, Any], ms: int, data: Any) -> Event:
    event: Event = {"id": raw["id"]} if "id" in raw else {}
    event |= {"type": raw["type"], "run": run}
    if raw.get("node"):
        event |= {"node": raw["node"]}
        if int(raw["attempt"]):
            event["attempt"] = int(raw["attempt"])
    return event | {"time": rfc3339(ms), "data": data}


def from_entry(run: str, entry: str, fields: Mapping[str, str]) -> Event:
    """Shape a stream entry as `event.schema.json` describes it; the id is also the time."""
    return _shape(run, {"id": entry, **fields}, cursor(entry)[0], json.loads(fields["data"]))


def from_live(run: str, message: str) -> Event:
    """Shape a published message."""
    raw = json.loads(message)
    return _shape(run, raw, cursor(raw["id"])[0] if "id" in raw else raw["at"], raw["data"])


async def read_events(client: Any, run: str, after: str, limit: int) -> list[Event]:
    """Durable events after the cursor, oldest first. Raises Unavailable."""
    rows = await away(client.xrange(keys.events(run), min=f"({after}", count=limit))
    return [from_entry(run, entry, fields) for entry, fields in rows]


class Subscription:
    """What one watcher has not yet read of one run; bounded."""

    def __init__(self, hub: "Hub", run: str, room: int) -> None:
        self.run = run
        self._hub = hub
        self._queue: asyncio.Queue[Event | Exception] = asyncio.Queue(room)
        self._lagging = False

    async def next(self) -> Event:
        """Wait for the next event. Raises Lagging or Interrupted, after which the watcher ranges again."""
        if self._lagging and self._queue.empty():
            self._lagging = False
            raise Lagging
        item = await self._queue.get()
        if isinstance(item, Exception):
            raise item
        return item

    def put(self, item: Event | Exception) -> None:
        """Queue an event; a lossy one is dropped when there is no room, a durable one makes the watcher range again."""
        try:
            self._queue.put_nowait(item)
        except asyncio.QueueFull:
            if isinstance(item, Exception) or "id" in item:
                self._lagging = True

    @property
    def lagging(self) -> bool:
        """Whether durable events were dropped since the last `Lagging`."""
        return self._lagging

    def close(self) -> None:
        """Stop listening."""
        self._hub.forget(self)


class _Line(PubSub):
    """One connection that subscribes; once it is lost it is never made again, so that no loss can pass unnoticed."""

    async def on_connect(self, connection: object) -> None:
        """Refuse what redis-py would do by itself: it is called only when a connection is made anew."""
        raise RedisConnectionError("the subscribing connection was lost")


class Hub:
    """The one subscribing connection of a process, shared by all its watchers.

    `run` alone uses the connection: watchers only say what they want (`_changed`).
    Whatever goes wrong ends the connection; the next one subscribes to all that is watched, and every watcher is told
    to range again: when the old one is lost, so that it learns where Redis is away, and when the new one counts.
    """

    def __init__(self, url: str) -> None:
        self._client = connect(url, blocking=True)
        self._watchers: dict[str, set[Subscription]] = {}
        self._confirmed: dict[str, asyncio.Future[None]] = {}
        self._interrupted: set[str] = set()
        self._changed = asyncio.Event()
        self._doubted = False

    async def open(self, run: str, room: int = 256) -> Subscription:
        """Subscribe to a run; returns once Redis has confirmed it, so that a range after it misses nothing."""
        subscription = Subscription(self, run, room)
        self._watchers.setdefault(run, set()).add(subscription)
        confirmed = self._confirmed.setdefault(run, asyncio.get_running_loop().create_future())
        self._changed.set()
        try:
            async with asyncio.timeout(_CONFIRM_SECONDS):
                await asyncio.shield(confirmed)
        except BaseException as error:
            self.forget(subscription)
            if not isinstance(error, TimeoutError):
                raise
            self._doubted = True
            self._changed.set()
            raise Unavailable("Redis does not confirm a subscription", retry_after=2.0) from None
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """Drop a watcher; the last one of a run ends its subscription at Redis."""
        watchers = self._watchers.get(subscription.run, set())
        watchers.discard(subscription)
        if not watchers and self._watchers.pop(subscription.run, None) is not None:
            self._confirmed.pop(subscription.run).cancel()
            self._interrupted.discard(subscription.run)
            self._changed.set()

    async def run(self) -> None:
        """Deliver messages until cancelled; after an interruption subscribe anew and tell every watcher."""
        while True:
            await self._changed.wait()
            try:
                await self._connected()
            except Exception as error:  # whatever it is: watchers must not wait on a hub that is gone
                unexpected = None if isinstance(error, Unavailable) else error
                log.warning("lost the subscribing connection: %s", error, exc_info=unexpected)
            self._lost()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _connected(self) -> None:
        """Subscribe to what is watched and read, in turns, until the connection fails."""
        line = _Line(self._client.connection_pool)
        asked: dict[str, asyncio.Future[None]] = {}
        due: Counter[str] = Counter()
        self._doubted = False
        try:
            while not self._doubted:
                self._changed.clear()
                await self._ask(line, asked, due)
                await self._read_until_changed(line, due)
            raise Unavailable("Redis does not confirm a subscription")
        finally:
            await line.aclose()  # type: ignore[no-untyped-call]

    async def _read_until_changed(self, line: _Line, due: "Counter[str]") -> None:
        """Never while something is sent: redis-py's connection is not for two tasks, once it is lost."""
        reading, changed = (asyncio.ensure_future(work) for work in (self._read(line, due), self._changed.wait()))
        try:
            await asyncio.wait([reading, changed], return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            await stop([reading, changed])

    async def _ask(self, line: _Line, asked: dict[str, "asyncio.Future[None]"], due: "Counter[str]") -> None:
        """Subscribe to what is newly watched, unsubscribe from what nobody watches any more."""
        gone = [run for run in asked if run not in self._confirmed]
        new = {run: future for run, future in self._confirmed.items() if asked.get(run) is not future}
        for run in gone:
            del asked[run]
        asked |= new
        due.update(list(new))
        if gone:
            await away(line.unsubscribe(*map(keys.live, gone)))
        if new:
            await away(line.subscribe(*map(keys.live, new)))

    async def _read(self, line: _Line, due: "Counter[str]") -> None:
        while True:
            message = await away(line.get_message(timeout=_READ_SECONDS))
            if message is None:
                continue
            run = message["channel"].rpartition(":")[2]
            if message["type"] == "subscribe":
                due[run] -= 1
                if not due[run]:
                    self._confirm(run)
            elif message["type"] == "message" and run in self._watchers:
                event = from_live(run, message["data"])
                for watcher in self._watchers[run]:
                    watcher.put(event)

    def _confirm(self, run: str) -> None:
        if run in self._interrupted:
            self._interrupted.discard(run)
            self._interrupt(run)
        if run in self._confirmed and not self._confirmed[run].done():
            self._confirmed[run].set_result(None)

    def _lost(self) -> None:
        """Refuse who waits for a confirmation; tell those who follow, now and when their subscription counts again."""
        for run, confirmed in list(self._confirmed.items()):
            if confirmed.done():
                self._interrupted.add(run)
                self._interrupt(run)
            else:
                confirmed.set_exception(Unavailable("Redis confirmed no subscription", retry_after=2.0))
                confirmed.exception()
            self._confirmed[run] = asyncio.get_running_loop().create_future()
        if self._watchers:
            self._changed.set()

    def _interrupt(self, run: str) -> None:
        for watcher in self._watchers.get(run, ()):
            watcher.put(Interrupted())

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()
