"""Server-sent events (the WHATWG's text/event-stream) as a response.

    id: 1763690695000-0          only durable events have one: it is what a browser sends back as Last-Event-ID
    data: {"type": …}

A comment every 15 seconds keeps proxies from closing a quiet stream.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from spindle_common.problems import TooManyRequests
from spindle_control import http_metrics
from spindle_control.problem_handlers import problem_response
from spindle_control.streams import Streams

KEEP_ALIVE_SECONDS = 15.0
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStream(Response):
    """Replies with the events of one run, until they end or the client goes."""

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, run: str, events: AsyncIterator[dict[str, Any]]) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._streams, self._run, self._events = streams, run, events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream."""
        try:
            with self._streams.room(http_metrics.event_streams):
                await self._stream(receive, send)
        except TooManyRequests as refusal:
            await problem_response(refusal)(scope, receive, send)

    async def _stream(self, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send(_body(b"retry: 1000\n\n"))

        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        async def send_event(text: str, event_id: str | None) -> None:
            head = f"id: {event_id}\n" if event_id else ""
            await send(_body(f"{head}data: {text}\n\n".encode()))

        alive = asyncio.ensure_future(_keep_alive(send))
        try:
            await self._streams.deliver(self._run, self._events, send_event, gone)
        finally:
            alive.cancel()
            await asyncio.gather(alive, return_exceptions=True)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _keep_alive(send: Send) -> None:
    while True:
        await asyncio.sleep(KEEP_ALIVE_SECONDS)
        await send(_body(b": still here\n\n"))


def _body(data: bytes) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": True}
