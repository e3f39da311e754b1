"""Following a run's events over a WebSocket, across lost connections.

Each message is one event as JSON. Durable ones carry an id, two integers joined by a dash; the last one seen is the
cursor from which a new connection goes on, so each comes once and in order. `bye` from the server (it drains, or we
were too slow) says the same: go on from there. The feed ends with the run's own last event,
or with a gap that shows that the run has ended.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from urllib.parse import urlencode

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from spindle_control.client.problems import Json, SpindleProblem, Unreachable, problem_of

TERMINAL = frozenset({"run.completed", "run.failed", "run.cancelled"})
LARGEST_MESSAGE = 4 * 1024 * 1024
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
_AWAY = (OSError, TimeoutError, ConnectionClosed, InvalidHandshake)


@dataclass(frozen=True, slots=True)
class Feed:
    """Where a run's events come from, and how long it may be away, in seconds."""

    url: str
    headers: Mapping[str, str]
    patience: float
    has_ended: Callable[[], Awaitable[bool]]


async def follow(feed: Feed, after: str | None) -> AsyncIterator[Json]:
    """Yield a run's events from the cursor to its end; raises Unreachable when the server stays away."""
    cursor = after
    heard = time.monotonic()
    pause = FIRST_PAUSE
    while True:
        try:
            silent = True
            async with aclosing(_one_connection(feed, cursor)) as events:
                async for event in events:
                    heard, pause, silent = time.monotonic(), FIRST_PAUSE, False
                    if event["type"] == "bye":
                        break
                    if not _is_news(event, cursor):
                        continue
                    cursor = event.get("id", cursor)
                    yield event
                    if event["type"] in TERMINAL or _tells_of_end(event):
                        return
            if silent and await feed.has_ended():  # the cursor was at the end already
                return
        except _AWAY as error:
            if time.monotonic() - heard + pause > feed.patience:
                raise Unreachable(feed.url, str(error) or type(error).__name__) from None
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


async def _one_connection(feed: Feed, cursor: str | None) -> AsyncGenerator[Json, None]:
    url = feed.url + (f"?{urlencode({'after': cursor})}" if cursor else "")
    try:
        async with connect(url, additional_headers=feed.headers, max_size=LARGEST_MESSAGE) as socket:
            async for message in socket:
                yield json.loads(message)
    except InvalidStatus as refusal:
        response = refusal.response
        if response.status_code in (429, 500, 502, 503, 504):
            raise
        raise SpindleProblem(problem_of(response.status_code, response.reason_phrase, bytes(response.body))) from None
    except ConnectionClosed as closed:
        _raise_refusal(closed)
        raise


def _raise_refusal(closed: ConnectionClosed) -> None:
    """Close codes from 4400 on carry an HTTP status: a browser is told why only after the handshake."""
    if closed.rcvd and 4400 <= closed.rcvd.code < 4500:
        title = closed.rcvd.reason or "The server refused"
        raise SpindleProblem({"type": "about:blank", "title": title, "status": closed.rcvd.code - 4000}) from None


def _tells_of_end(event: Json) -> bool:
    """Whether it is a gap whose snapshot shows an ended run: every connection would begin with the same one."""
    snapshot = event["data"].get("snapshot", {}) if event["type"] == "gap" else {}
    return f"run.{snapshot.get('status')}" in TERMINAL


def _is_news(event: Json, cursor: str | None) -> bool:
    return "id" not in event or cursor is None or _position(event["id"]) > _position(cursor)


def _position(cursor: str) -> tuple[int, int]:
    major, _, minor = cursor.partition("-")
    return int(major), int(minor or 0)
