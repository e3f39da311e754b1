"""The outermost layer: every request gets a trace and is measured, and nothing that goes wrong shows a traceback.

traceparent in (or begun here) -> current_trace -> logs, problems, runs
unforeseen exception -> log with its traceback -> 500 problem with the trace id
"""

import logging
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spindle_common.problems import SpindleError
from spindle_common.telemetry import child_traceparent, current_trace
from spindle_control import http_metrics
from spindle_control.problem_handlers import problem_response

log = logging.getLogger(__name__)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Edge:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        token = current_trace.set(child_traceparent(Headers(scope=scope).get("traceparent")))
        try:
            await self._measured(scope, receive, send)
        finally:
            current_trace.reset(token)

    async def _measured(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = 0
        began = time.perf_counter()

        async def watching(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, watching)
        except Exception:
            log.exception("%s %s failed", scope.get("method", "WebSocket"), scope["path"])
            if status == 0 and scope["type"] == "http":
                await problem_response(SpindleError("The log knows more; give the trace id."))(scope, receive, watching)
        finally:
            if scope["type"] == "http":
                _count(scope, status, time.perf_counter() - began)


def _count(scope: Scope, status: int, seconds: float) -> None:
    method = scope["method"] if scope["method"] in _METHODS else "other"
    route = getattr(scope.get("route"), "path", "unknown")
    http_metrics.requests.labels(method, route, status or 499).inc()
    http_metrics.request_seconds.labels(method, route).observe(seconds)
