"""The content cache: how much it keeps for a tenant, how often that helped, and a purge."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from spindle_control.api import PREFIX, services, tenant
from spindle_control.routes import documented as doc

router = APIRouter(prefix=f"{PREFIX}/cache", tags=["cache"])


@router.get("", summary="What is kept", responses=doc.answers(200, "Counts.", "Kept", doc.KEPT, 503))
async def about(request: Request) -> JSONResponse:
    """Entries and their bytes; hits and misses of nodes that looked, since the last purge or loss of Redis."""
    return JSONResponse(await services(request).kept.about(tenant(request)))


@router.delete("", summary="Forget what is kept", responses=doc.answers(200, "Done.", "Purged", doc.PURGED, 400, 503))
async def purge(
    request: Request,
    node_type: Annotated[
        str | None,
        Query(
            alias="type",
            description="Only of this node type; without a version, of all.",
            examples=["image.generate@1"],
        ),
    ] = None,
) -> JSONResponse:
    """Nodes compute anew from now on; results of runs stay."""
    return JSONResponse({"entries": await services(request).kept.purge(tenant(request), node_type)})
