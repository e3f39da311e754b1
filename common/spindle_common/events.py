"""A run's events: reading them, and following them live.

Durable events are entries of the run's stream; their ids are the cursor everywhere, and compare as two integers.
Ticks and previews come by pub/sub only and have no id. To follow without a gap: subscribe, then range from the
cursor, then follow by id; whenever the subscription was interrupted, range again.

    Redis --one connection--> Hub --bounded queue each--> Subscription (one per socket)
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from spindle_common import keys
from spindle_common.problems import Unavailable
from spindle_common.queue import away, connect

Event = dict[str, Any]
log = logging.getLogger(__name__)
START = "0-0"
RUN_ENDS = frozenset({"run.completed", "run.failed", "run.cancelled"})
_RETRY_SECONDS = 0.5
_CONFIRM_SECONDS = 20.0


class Lagging(Exception):
    """A subscriber's queue ran over: it must range again, or be told goodbye."""


class Interrupted(Exception):
    """The subscription was made anew: events may have been missed, range again."""


def cursor(text: str) -> tuple[int, int]:
    """Read a cursor as the two integers that it is. Raises ValueError."""
    first, _, second = text.partition("-")
    return int(first), int(second or 0)


def rfc3339(ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339, in UTC."""
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


class Hub:
    """The one subscribing connection of a process, shared by all its watchers."""

    def __init__(self, url: str) -> None:
        self._client = connect(url, blocking=True)
        self._pubsub = self._client.pubsub(ignore_subscribe_messages=False)
        self._watchers: dict[str, set[Subscription]] = {}
        self._confirmed: dict[str, asyncio.Event] = {}
        self._wanted = asyncio.Event()
        self._sending = asyncio.Lock()

    async def open(self, run: str, room: int = 256) -> Subscription:
        """Subscribe to a run; returns once Redis has confirmed it, so that a range after it misses nothing."""
        subscription = Subscription(self, run, room)
        first = run not in self._watchers
        self._watchers.setdefault(run, set()).add(subscription)
        confirmed = self._confirmed.setdefault(run, asyncio.Event())
        try:
            if first:
                async with self._sending:  # several first commands at once would each open a connection
                    await away(self._pubsub.subscribe(keys.live(run)))
                self._wanted.set()
            async with asyncio.timeout(_CONFIRM_SECONDS):
                await confirmed.wait()
        except (TimeoutError, Unavailable):
            self.forget(subscription)
            raise Unavailable("Redis does not confirm a subscription", retry_after=2.0) from None
        return subscription

    def forget(self, subscription: Subscription) -> None:
        """Drop a watcher; the last one of a run ends its subscription at Redis."""
        watchers = self._watchers.get(subscription.run)
        if watchers is None:
            return
        watchers.discard(subscription)
        if not watchers:
            del self._watchers[subscription.run]
            self._confirmed.pop(subscription.run, None)
            task = asyncio.ensure_future(self._unsubscribe(subscription.run))
            task.add_done_callback(lambda done: done.exception())

    async def _unsubscribe(self, run: str) -> None:
        with contextlib.suppress(Unavailable):
            async with self._sending:
                if run not in self._watchers:
                    await away(self._pubsub.unsubscribe(keys.live(run)))

    async def run(self) -> None:
        """Deliver messages until cancelled; after an interruption subscribe anew and tell every watcher."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._deliver()
            except Unavailable as error:
                log.warning("lost the subscribing connection: %s", error)
                await asyncio.sleep(_RETRY_SECONDS)
                self._wanted.set()
                self._interrupted()

    async def _deliver(self) -> None:
        while self._pubsub.subscribed:
            message = await away(self._pubsub.get_message(timeout=5.0))
            if message is None:
                continue
            run = message["channel"].rpartition(":")[2]
            if message["type"] == "subscribe" and run in self._confirmed:
                self._confirmed[run].set()
            elif message["type"] == "message" and run in self._watchers:
                event = from_live(run, message["data"])
                for watcher in self._watchers[run]:
                    watcher.put(event)

    def _interrupted(self) -> None:
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.put(Interrupted())

    async def close(self) -> None:
        """Close the connection."""
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]
        await self._client.aclose()
