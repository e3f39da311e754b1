"""A run's events: JSON pages, server-sent events, a WebSocket; the same events with the same ids."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, WebSocket
from fastapi.responses import JSONResponse, Response
from starlette.websockets import WebSocketDisconnect

from spindle_common.problems import InvalidRequest, NotFound, SpindleError
from spindle_control import http_metrics
from spindle_control.api import PREFIX, Json, services, tenant
from spindle_control.auth import SUBPROTOCOL, ticket_hash
from spindle_control.problem_handlers import problem_response
from spindle_control.routes import documented as doc
from spindle_control.server_sent import EventStream
from spindle_control.streams import End, Streams, valid_cursor
from spindle_control.tables import ENDED

router = APIRouter(prefix=PREFIX, tags=["events"])

TICKET_SECONDS = 30
_CLOSE_SECONDS = 2.0
_CLOSE = {End.COMPLETE: 1000, End.SLOW: 1013, End.STOPPING: 1001, End.UNAVAILABLE: 1013}
After = Annotated[str | None, Query(description="Cursor: the id of the last event seen.", examples=["1763690695000-0"])]


@router.get(
    "/runs/{run_id}/events",
    summary="Page through a run's events, or follow them",
    responses=doc.answers(200, "A page, or a stream.", "EventPage", doc.EVENT_PAGE, 400, 404, 429, 503)
    | doc.event_stream(),
    response_model=None,
)
async def events(
    request: Request,
    run_id: str,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most events of a page.")] = 1000,
    last_event_id: Annotated[str | None, Header(description="What a browser sends when it reconnects.")] = None,
    ticket: Annotated[str | None, Query(description="One-time ticket in place of a key, for streams.")] = None,
) -> Response:
    """With `Accept: text/event-stream` replays from the cursor, then follows until the run's end."""
    del ticket  # the guard has used it
    if "text/event-stream" not in request.headers.get("accept", ""):
        found = await services(request).runs.history(run_id, tenant(request), valid_cursor(after), limit)
        return JSONResponse(found)
    return await _stream(request, run_id, valid_cursor(last_event_id) or valid_cursor(after))


async def _stream(request: Request, run_id: str, after: str | None) -> Response:
    found = services(request)
    row = await found.store.run(run_id, tenant(request))
    if after and row.status in ENDED and not (await found.runs.history(run_id, row.tenant, after, 1))["events"]:
        return Response(status_code=204)  # tells an EventSource that there is no more to reconnect for
    streams: Streams = request.app.state.streams
    watched: AsyncIterator[Json] = found.runs.watch(run_id, row.tenant, after)
    return EventStream(streams, run_id, watched)


async def follow(socket: WebSocket) -> None:
    """Replay from the cursor, then follow until the run's end; one event as JSON in each message."""
    streams: Streams = socket.app.state.streams
    try:
        with streams.room(http_metrics.websockets):
            await _follow(socket, socket.path_params["run_id"], socket.query_params.get("after"))
    except SpindleError as refusal:
        await problem_response(refusal)(socket.scope, socket.receive, socket.send)
    except WebSocketDisconnect:
        pass


async def _follow(socket: WebSocket, run_id: str, after: str | None) -> None:
    found = services(socket)
    refusal: tuple[int, str] | None = None
    try:
        start = valid_cursor(after)
        await found.store.check_run(run_id, tenant(socket))
    except NotFound as error:
        refusal = 4404, error.detail
    except InvalidRequest as error:
        refusal = 4400, error.detail
    await socket.accept(SUBPROTOCOL if SUBPROTOCOL in socket.scope["subprotocols"] else None)
    if refusal:  # only after accepting does a browser tell its page why
        await socket.close(refusal[0], refusal[1][:120])
        return

    async def send(text: str, _event_id: str | None) -> None:
        await socket.send_text(text)

    async def gone() -> None:
        while (await socket.receive())["type"] != "websocket.disconnect":
            pass

    streams: Streams = socket.app.state.streams
    end = await streams.deliver(run_id, found.runs.watch(run_id, tenant(socket), start), send, gone)
    if end is not End.GONE:
        with contextlib.suppress(TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await socket.close(_CLOSE[end], end.value)


router.add_websocket_route(f"{PREFIX}/runs/{{run_id}}/ws", follow)  # FastAPI's own kind costs 0.2 ms a socket


@router.post(
    "/sse-tickets",
    status_code=201,
    summary="Get a ticket for one event stream",
    responses=doc.answers(201, "Use it within 30 seconds.", "Ticket", doc.TICKET, 401, 503),
)
async def ticket(request: Request) -> JSONResponse:
    """A browser's EventSource cannot send headers: it opens `runs/{id}/events?ticket=…` instead, once."""
    text = secrets.token_urlsafe(32)
    expires = time.time() + TICKET_SECONDS
    await services(request).store.add_ticket(ticket_hash(text), tenant(request), int(expires * 1000))
    until = datetime.fromtimestamp(expires, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return JSONResponse({"ticket": text, "expires_at": until}, status_code=201, headers={"Cache-Control": "no-store"})
