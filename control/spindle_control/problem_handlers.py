"""Every refusal is `application/problem+json` (RFC 9457), whoever refuses: we, the router, FastAPI's own validation."""

import json
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from spindle_common.problems import (
    PREFIX,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    RangeNotSatisfiable,
    SpindleError,
    Unauthorized,
    mistake,
    pointer,
)
from spindle_common.telemetry import current_trace, trace_id

MEDIA_TYPE = "application/problem+json"
_PLACES = {"body": "body", "path": "path", "query": "query", "header": "headers", "cookie": "cookies"}


class ProblemResponse(Response):
    """A problem as an HTTP reply."""

    media_type = MEDIA_TYPE


def problem_response(error: SpindleError, headers: Mapping[str, str] | None = None) -> Response:
    """Turn an error into a reply, with the trace under which the logs know it."""
    body = error.problem(trace_id(current_trace.get()))
    found = dict(headers or {}) | {"Cache-Control": "no-store"}
    if error.retry_after is not None:
        found["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, Unauthorized):
        found["WWW-Authenticate"] = "Bearer"
    return ProblemResponse(_encode(body), status_code=error.status, headers=found)


def install(app: FastAPI) -> None:
    """Make the app answer with problems; what nobody foresaw is caught further out, by the edge."""
    app.add_exception_handler(SpindleError, _ours)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _routers)


def _encode(body: Mapping[str, Any]) -> bytes:
    """Encode as UTF-8; half a surrogate pair, echoed from a request, becomes a question mark."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


async def _ours(_request: Request, error: Exception) -> Response:
    assert isinstance(error, SpindleError)  # noqa: S101 -- Starlette's handlers are typed by Exception
    headers = {"Content-Range": f"bytes */{error.instance}"} if isinstance(error, RangeNotSatisfiable) else None
    return problem_response(error, headers)


async def _validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    found = []
    for each in error.errors():
        place, *path = each["loc"] or ("body",)
        where = pointer(_PLACES.get(str(place), str(place)), *path)
        found.append(mistake(where, str(each["type"]).replace("_", "-").lower(), str(each["msg"])))
    return problem_response(InvalidRequest("The request's parameters are not valid.", errors=found))


async def _routers(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    if error.status_code == 404:
        return problem_response(NotFound(f"There is nothing at {request.url.path[:200]}."), error.headers)
    if error.status_code == 405:
        refusal = MethodNotAllowed(f"{request.url.path[:200]} takes no {request.method[:20]}.")
        return problem_response(refusal, {"Allow": ", ".join(sorted(_methods(request)))})
    status = HTTPStatus(error.status_code)
    body: dict[str, Any] = {
        "type": PREFIX + status.phrase.lower().replace(" ", "-"),
        "title": status.phrase,
        "status": status.value,
    }
    body |= {"detail": str(error.detail), "trace_id": trace_id(current_trace.get())}
    return ProblemResponse(_encode(body), status_code=error.status_code, headers=error.headers)


def _methods(request: Request) -> set[str]:
    """Return what the address takes; the router names only the first route's methods."""
    found: set[str] = set()
    for route in request.app.state.api_routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found
