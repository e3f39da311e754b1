"""Probes and figures, outside the versioned API."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from spindle_common.problems import SpindleError
from spindle_control import standing
from spindle_control.api import Json, services
from spindle_control.routes import documented as doc
from spindle_control.service import Services

router = APIRouter(tags=["operation"])
log = logging.getLogger(__name__)

Checks = Mapping[str, Callable[[], Awaitable[object]]]

_TIMEOUT = 3.0
_VERSION = version("spindle-control")
_EXAMPLE = doc.HEALTH


def _replies() -> dict[int | str, Json]:
    bad = _EXAMPLE | {"status": "unavailable", "parts": {"redis": {"ok": False, "detail": "Redis does not answer."}}}
    content = {"application/json": {"schema": doc.ref("Health"), "example": bad}}
    return doc.answers(200, "All is well.", "Health", _EXAMPLE) | {503: {"description": "Not now.", "content": content}}


@router.get("/livez", summary="Alive", responses=_replies())
async def livez() -> JSONResponse:
    """The process answers; says nothing of what it needs."""
    return JSONResponse({"status": "ok", "version": _VERSION, "parts": {}})


@router.get("/readyz", summary="Ready", responses=_replies())
async def readyz(request: Request) -> JSONResponse:
    """Database and Redis answer, and runs make progress: submissions are taken, and get somewhere."""
    return await _report(_needed(services(request)))


@router.get("/health", summary="Health", responses=_replies())
async def health(request: Request) -> JSONResponse:
    """As `/readyz`, and the artifact store."""
    found = services(request)
    return await _report({**_needed(found), "artifacts": found.artifacts.check})


def _needed(found: Services) -> Checks:
    limits = standing.Limits.of(found.settings)

    async def driver() -> None:
        standing.check_driver(found.driver, limits)

    async def reconciler() -> None:
        standing.check_reconciler(found.driver, limits)

    async def queues() -> None:
        standing.check_queues(found.registry, limits)

    parts: Checks = {"database": found.store.check, "redis": found.redis_health}
    return {**parts, "driver": driver, "reconciler": reconciler, "queues": queues}


@router.get("/metrics", summary="Prometheus figures", response_class=Response, include_in_schema=False)
async def metrics() -> Response:
    """The process's registry in Prometheus' text format."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


async def _report(checks: Checks) -> JSONResponse:
    states = await asyncio.gather(*(_state(name, check) for name, check in checks.items()))
    well = all(state["ok"] for state in states)
    body = {
        "status": "ok" if well else "unavailable",
        "version": _VERSION,
        "parts": dict(zip(checks, states, strict=True)),
    }
    return JSONResponse(body, status_code=200 if well else 503, headers={"Cache-Control": "no-store"})


async def _state(name: str, check: Callable[[], Awaitable[object]]) -> Json:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(_TIMEOUT):
            await check()
    except TimeoutError:
        return {"ok": False, "detail": f"No answer within {_TIMEOUT:g} seconds."}
    except SpindleError as error:
        return {"ok": False, "detail": error.detail or error.title}
    except Exception:
        log.exception("the check of %s failed", name)
        return {"ok": False, "detail": "The check failed; the log knows more."}
    return {"ok": True, "milliseconds": round((time.perf_counter() - began) * 1000, 2)}
