"""Who may come in: Host, Origin and API key are checked before any route sees the request.

no keys        tenant `default`, on loopback only; the Host header must name this machine
keys exist     `Authorization: Bearer KEY` or `X-API-Key: KEY`; the key names the tenant
  WebSocket    also as a subprotocol, as Kubernetes does: offer `spindle.v1` and
               `base64url.bearer.authorization.spindle.<base64url(KEY)>`; only `spindle.v1` is answered
  event stream also by `?ticket=`, from POST /api/v1/sse-tickets: 30 s, once
probes         open; /metrics open for clients on loopback
"""

import base64
import binascii
import hashlib
import re

from starlette.datastructures import Headers, QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from spindle_common.problems import Forbidden, SpindleError, Unauthorized
from spindle_control.api import PREFIX
from spindle_control.origins import SAFE_METHODS, host_allowed, is_loopback, origin_allowed
from spindle_control.problem_handlers import problem_response
from spindle_control.service import Services

SUBPROTOCOL = "spindle.v1"
_BEARER = "base64url.bearer.authorization.spindle."
_PROBES = frozenset({"/livez", "/readyz", "/health"})
_EVENTS = re.compile(re.escape(PREFIX) + r"/runs/[^/]+/events")


class Guard:
    """ASGI middleware; puts the tenant into the request's state."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services
        settings = services.settings
        self._origins = frozenset(origin.lower().rstrip("/") for origin in settings.allowed_origins)
        self._hosts = frozenset(host.lower() for host in settings.allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            headers = Headers(scope=scope)
            self._check_origin(scope, headers)
            scope["state"]["tenant"] = await self._tenant(scope, headers)
        except SpindleError as refusal:
            await refuse(refusal, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        changes = scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS
        origin = headers.get("origin")
        host = headers.get("host", "")
        if changes and origin is not None and not origin_allowed(origin, scope["scheme"], host, self._origins):
            raise Forbidden("Pages of this origin may not call; SPINDLE_ALLOWED_ORIGINS names those that may.")

    async def _tenant(self, scope: Scope, headers: Headers) -> str:
        if scope["path"] in _PROBES:
            return ""
        keys = self._services.keys
        if not keys.required:
            return self._without_keys(headers)
        key = keys.verify(_presented(scope, headers))
        if key:
            return key.tenant
        if scope["path"] == "/metrics" and is_loopback((scope.get("client") or ("",))[0]):
            return ""
        ticket = QueryParams(scope["query_string"]).get("ticket") if _EVENTS.fullmatch(scope["path"]) else None
        tenant = await self._services.store.take_ticket(ticket_hash(ticket)) if ticket else None
        if tenant is None:
            raise Unauthorized("Send `Authorization: Bearer KEY` or `X-API-Key: KEY`; `spindle keys create` makes one.")
        return tenant

    def _without_keys(self, headers: Headers) -> str:
        if not self._services.settings.loopback:
            raise Unauthorized("This server needs API keys and has none; `spindle keys create` makes one.")
        if not host_allowed(headers.get("host", ""), self._hosts):
            raise Forbidden("The Host header does not name this machine; SPINDLE_ALLOWED_HOSTS adds names.")
        return "default"


async def refuse(refusal: SpindleError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a problem, also to a WebSocket that is not yet accepted."""
    await problem_response(refusal)(scope, receive, send)


def ticket_hash(ticket: str) -> str:
    """What is kept of a ticket."""
    return hashlib.sha256(ticket.encode("utf-8", "replace")).hexdigest()


def _presented(scope: Scope, headers: Headers) -> str:
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        return key.strip()
    if key := headers.get("x-api-key", ""):
        return key
    for offered in scope.get("subprotocols") or ():
        if offered.startswith(_BEARER):
            return _decoded(offered.removeprefix(_BEARER))
    return ""


def _decoded(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""
