"""Workflows: check one without running it."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from spindle_control.api import PREFIX, services, tenant
from spindle_control.bodies import json_object
from spindle_control.routes import documented as doc

router = APIRouter(prefix=PREFIX, tags=["workflows"])


@router.post(
    "/workflows:validate",
    summary="Check a workflow",
    responses=doc.answers(200, "It is valid; this is its plan.", "Validation", doc.VALIDATION, 400, 413, 415, 422, 503),
    openapi_extra=doc.body("Workflow", doc.WORKFLOW),
)
async def validate(request: Request) -> JSONResponse:
    """Report every mistake at once, or how the workflow would be cut into tasks. A whole submission is taken too."""
    found = services(request)
    body = await json_object(request, found.settings.max_document_bytes)
    return JSONResponse(await found.runs.validate(tenant(request), body))
