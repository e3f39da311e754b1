"""The web application: routes within their guards.

edge (trace, figures, no traceback) -> CORS for allowed origins -> guard (Host, Origin, key) -> routes
"""

from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.middleware.cors import CORSMiddleware

from spindle_control import asyncapi, openapi, problem_handlers
from spindle_control.auth import Guard
from spindle_control.edge import Edge
from spindle_control.routes import (
    artifacts,
    cache,
    catalog,
    dead_letters,
    events,
    health,
    imports,
    library,
    nodes,
    runs,
    workflows,
)
from spindle_control.service import Services
from spindle_control.streams import Streams

__all__ = ["Services", "create_app"]

_DESCRIPTION = """Submit a workflow as JSON, watch it run, fetch what it made.

Errors are `application/problem+json` (RFC 9457) with every mistake at once. Pages have `next`, a cursor for `after`.
Events and WebSockets are described at `/asyncapi.json`."""
_HEADERS = ["Authorization", "X-API-Key", "Content-Type", "Idempotency-Key", "Last-Event-ID", "traceparent", "Range"]
_HEADERS += ["If-Match", "If-None-Match"]
_EXPOSED = ["Location", "ETag", "Retry-After", "Content-Range"]


def create_app(services: Services) -> FastAPI:
    """Build the application over open services."""
    app = FastAPI(
        title="Spindle",
        version=version("spindle-control"),
        summary="Generative-media workflows",
        description=_DESCRIPTION,
        docs_url=None,  # its page would fetch scripts from elsewhere
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.streams = Streams(services.settings.max_sockets)
    modules = (runs, nodes, events, workflows, imports, library, dead_letters, artifacts, cache, catalog, health)
    routers = [module.router for module in modules]
    app.state.api_routes = [route for router in routers for route in router.routes]
    problem_handlers.install(app)
    app.router.routes += app.state.api_routes  # `include_router` would match each request against all routes twice
    app.add_api_route("/openapi.json", _openapi, include_in_schema=False)
    app.add_api_route("/asyncapi.json", _asyncapi, include_in_schema=False)
    _wrap(app, services)
    return app


def _wrap(app: FastAPI, services: Services) -> None:
    """Add the layers around the routes, the innermost first."""
    app.add_middleware(Guard, services=services)
    if origins := services.settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=sorted(origins),
            allow_methods=["GET", "HEAD", "POST", "PUT", "DELETE"],
            allow_headers=_HEADERS,
            expose_headers=_EXPOSED,
        )
    app.add_middleware(Edge)


async def _openapi(request: Request) -> JSONResponse:
    """The OpenAPI document."""
    return JSONResponse(openapi.document(request.app))


async def _asyncapi(request: Request) -> JSONResponse:
    """The AsyncAPI document."""
    found: dict[str, Any] = asyncapi.document(request.app.version, request.headers.get("host", "localhost"))
    return JSONResponse(found)
