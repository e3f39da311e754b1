"""What there is: node types, workers, queues; and where Prometheus finds the workers."""

from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from spindle_common.problems import NotFound
from spindle_control.api import PREFIX, Json, services
from spindle_control.routes import documented as doc

router = APIRouter(prefix=PREFIX, tags=["catalog"])


@router.get(
    "/node-types",
    summary="List node types",
    responses=doc.answers(200, "All that were ever announced.", "NodeTypes", doc.NODE_TYPES, 503),
)
async def node_types(request: Request) -> JSONResponse:
    """Each with the JSON Schemas of its ports, and the queues on which live workers offer it."""
    return JSONResponse({"node_types": await services(request).registry.node_types()})


@router.get(
    "/node-types/{node_type}",
    summary="Show a node type",
    responses=doc.answers(200, "The node type.", "NodeType", doc.NODE_TYPE, 404, 503),
)
async def node_type(request: Request, node_type: str) -> JSONResponse:
    """Find it by name and version, such as `image.generate@1`."""
    for each in await services(request).registry.node_types():
        if each["type"] == node_type:
            return JSONResponse(each)
    raise NotFound(f"There is no node type {node_type[:128]!r}.")


@router.get(
    "/workers", summary="List workers", responses=doc.answers(200, "Live workers.", "Workers", doc.WORKERS, 503)
)
async def workers(request: Request) -> JSONResponse:
    """Their slots, node types, models, and the types that were refused because their schemas contradict."""
    return JSONResponse({"workers": await services(request).registry.workers()})


@router.get("/queues", summary="List queues", responses=doc.answers(200, "How they stand.", "Queues", doc.QUEUES, 503))
async def queues(request: Request) -> JSONResponse:
    """Slots, what waits and runs, and how long the oldest has waited."""
    return JSONResponse({"queues": await services(request).registry.queues()})


@router.get(
    "/prometheus/targets",
    summary="Service discovery for Prometheus",
    responses=doc.answers(200, "Where the workers' figures are.", "PrometheusTargets", doc.TARGETS, 503),
)
async def targets(request: Request) -> JSONResponse:
    """The document that Prometheus' `http_sd_configs` reads."""
    found = [_target(worker) for worker in await services(request).registry.workers()]
    return JSONResponse([each for each in found if each])


def _target(worker: Json) -> dict[str, Any] | None:
    try:
        url = urlsplit(worker["metrics_url"] or "")
        address = f"{url.netloc}:80" if url.port is None and url.scheme == "http" else url.netloc
    except ValueError:
        return None
    if url.scheme not in ("http", "https") or not url.hostname or "@" in url.netloc:
        return None
    labels = {"worker": worker["id"], "host": worker["host"] or url.hostname}
    return {
        "targets": [address],
        "labels": labels | {"__scheme__": url.scheme, "__metrics_path__": url.path or "/metrics"},
    }
