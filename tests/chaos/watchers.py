"""Watchers: they follow a run over WebSockets or server-sent events, go away at any moment, and resume by cursor.

Each connection is one line of the history: from where it began, the ids and types that it saw, how it ended.
"""

import asyncio
import contextlib
import json
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from chaos.history import History

Json = dict[str, Any]
ENDS = frozenset({"run.completed", "run.failed", "run.cancelled"})
_AWAY = (OSError, TimeoutError, WebSocketException, httpx.HTTPError)
_SILENCE = 60.0


class Watcher:
    """Follows one run from its first event to its last, over as many connections as it takes."""

    def __init__(self, url: Callable[[], str], history: History, rng: random.Random, number: int) -> None:
        self._url, self._history, self._rng, self._number = url, history, rng, number

    async def follow(self, run: str, via: str) -> None:
        """Watch until the run's end was seen."""
        cursor: str | None = None
        while True:
            seen: list[list[Any]] = []
            gap = False
            url = self._url()
            ended = "left"
            try:
                async with (
                    asyncio.timeout(_SILENCE),
                    contextlib.aclosing(self._events(url, run, via, cursor)) as events,
                ):
                    leave_after = self._rng.choice((1, 2, 3, 5, 1000))
                    async for event in events:
                        gap = gap or event["type"] == "gap"
                        if event["type"] == "bye":  # this control can't go on: resume elsewhere
                            ended = "bye"
                            break
                        if "id" in event:
                            seen.append([event["id"], event["type"], event.get("node"), event.get("attempt")])
                        if event["type"] in ENDS or len(seen) >= leave_after:
                            break
                    else:
                        ended = "closed"
            except _AWAY as error:
                ended = type(error).__name__
            self._history.note(
                "feed", watcher=self._number, run=run, url=url, via=via, after=cursor, seen=seen, gap=gap, ended=ended
            )
            if seen:
                cursor = seen[-1][0]
                if seen[-1][1] in ENDS:
                    return
            elif ended == "closed" and await self._is_over(url, run):
                return  # its end was seen before, or its events were lost with Redis
            await asyncio.sleep(self._rng.uniform(0, 0.3) if ended == "left" else 0.5)

    async def _is_over(self, url: str, run: str) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            async with httpx.AsyncClient(timeout=5) as http:
                answer = await http.get(f"{url}/api/v1/runs/{run}")
                return answer.status_code == 200 and f"run.{answer.json()['status']}" in ENDS
        return False

    def _events(self, url: str, run: str, via: str, cursor: str | None) -> Any:
        return self._socket(url, run, cursor) if via == "ws" else self._stream(url, run, cursor)

    async def _socket(self, url: str, run: str, cursor: str | None) -> AsyncIterator[Json]:
        after = f"?after={cursor}" if cursor else ""
        place = f"{url.replace('http', 'ws', 1)}/api/v1/runs/{run}/ws{after}"
        async with connect(place, max_size=2**24, open_timeout=5, close_timeout=1) as feed:
            async for message in feed:
                yield json.loads(message)

    async def _stream(self, url: str, run: str, cursor: str | None) -> AsyncIterator[Json]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": cursor} if cursor else {})
        timeout = httpx.Timeout(_SILENCE, connect=3.0)
        async with (
            httpx.AsyncClient(timeout=timeout) as http,
            http.stream("GET", f"{url}/api/v1/runs/{run}/events", headers=headers) as answer,
        ):
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if line.startswith("data:"):
                    yield json.loads(line.removeprefix("data:"))


class Stuck:
    """A WebSocket that was opened and is never read: a laptop that was closed."""

    def __init__(self, url: str, run: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self._socket.settimeout(30)
        self._socket.connect((parts.hostname, parts.port))
        headers = {
            "Host": parts.netloc,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        }
        lines = [f"GET /api/v1/runs/{run}/ws HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self.status = self._socket.recv(12)[9:]

    def close(self) -> None:
        """Reset the connection, so that nothing lingers."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()
