"""Stored workflows: put, show, list, compare, hide, execute.

The ETag of a workflow is its newest version's digest in quotes, that of a version its own. A version never changes.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from spindle_common.problems import InvalidRequest, NotFound, mistake
from spindle_common.telemetry import current_trace
from spindle_control.api import PREFIX, Json, services, tenant
from spindle_control.bodies import json_object
from spindle_control.conditions import Condition, etag_of
from spindle_control.library import UnknownWorkflow, record_of
from spindle_control.routes import documented as doc
from spindle_control.routes.runs import After, IdempotencyKey, Limit, accepted_run, valid_key
from spindle_control.stored import MOST_VERSION, NAME, Version

router = APIRouter(prefix=f"{PREFIX}/workflows", tags=["workflows"])

Name = Annotated[str, Path(description="Name of the workflow.", pattern=f"^{NAME.pattern}$", examples=["poster"])]
_Number = Annotated[int | None, Query(ge=1, le=MOST_VERSION, description="Which version; else the newest.")]
_From = Annotated[
    int | None, Query(alias="from", ge=1, le=MOST_VERSION, description="Older version; else the one before `to`.")
]
_To = Annotated[int | None, Query(alias="to", ge=1, le=MOST_VERSION, description="Newer version; else the newest.")]
_IfMatch = Annotated[
    str | None, Header(description="Only if the newest version has this ETag.", examples=[f'"{doc.DIGEST}"'])
]
_IfNoneMatch = Annotated[str | None, Header(description="`*`: only if there is none.", examples=["*"])]
_IfNew = Annotated[str | None, Header(description="Answer 304 if this ETag still holds.", examples=[f'"{doc.DIGEST}"'])]
_UNCHANGED: dict[int | str, Any] = {304: {"description": "You have it."}}
_EXECUTION = frozenset({"inputs", "priority", "version"})


@router.get(
    "",
    summary="List workflows, newest change first",
    responses=doc.answers(200, "A page.", "StoredWorkflowPage", doc.WORKFLOW_PAGE, 400, 503),
)
async def page(request: Request, after: After = None, limit: Limit = 50) -> JSONResponse:
    """Each with its newest version; hidden ones are left out."""
    return JSONResponse(await services(request).library.page(tenant(request), after or None, limit))


@router.put(
    "/{name}",
    summary="Store a workflow",
    responses=doc.answers(200, "It is the newest version already.", "WorkflowVersion", doc.VERSION)
    | doc.answers(
        *(201, "Kept as a new version.", "WorkflowVersion", doc.VERSION, 400, (409, "too-many-versions")),
        *(412, 413, 415, 422, 503),
    ),
    openapi_extra=doc.body("Workflow", doc.WORKFLOW),
)
async def put(
    request: Request, name: Name, if_match: _IfMatch = None, if_none_match: _IfNoneMatch = None
) -> JSONResponse:
    """Check the document and make it the next version, unless it is the newest one already.

    Its `name` must be the name in the address, or absent. Calls of other workflows without a version are pinned to
    their newest ones, so that a version means the same for ever.
    """
    del if_match, if_none_match  # read from the headers, where they may stand more than once
    found = services(request)
    condition = Condition.of(request.headers)
    body = await json_object(request, found.settings.max_document_bytes)
    record, new = await found.library.put(tenant(request), name, body, condition)
    headers = _headers(record) | {"Location": f"{router.prefix}/{name}?version={record['version']}"}
    return JSONResponse(record, status_code=201 if new else 200, headers=headers)


@router.get(
    "/{name}/versions",
    summary="List a workflow's versions, newest first",
    responses=doc.answers(200, "A page.", "WorkflowVersionPage", doc.VERSION_PAGE, 400, 404, 503),
)
async def versions(request: Request, name: Name, after: After = None, limit: Limit = 50) -> JSONResponse:
    """Without their documents; of a hidden workflow too."""
    return JSONResponse(await services(request).library.versions(tenant(request), name, after or None, limit))


@router.get(
    "/{name}/document",
    summary="Export a workflow",
    responses=doc.answers(200, "The document.", "Workflow", doc.WORKFLOW, 400, 404, 503) | _UNCHANGED,
)
async def document(request: Request, name: Name, version: _Number = None, if_none_match: _IfNew = None) -> Response:
    """The bare document, as it can be stored or submitted elsewhere."""
    del if_none_match
    found = await services(request).library.version(tenant(request), name, version)
    return _unless_known(request, found, found.document or {})


@router.get(
    "/{name}:diff",
    summary="Compare two versions",
    responses=doc.answers(200, "What changed.", "WorkflowDifference", doc.DIFFERENCE, 400, 404, 503),
)
async def diff(request: Request, name: Name, before: _From = None, after: _To = None) -> JSONResponse:
    """As a JSON Patch (RFC 6902) that turns one into the other, and which nodes it concerns."""
    return JSONResponse(await services(request).library.difference(tenant(request), name, before, after))


@router.post(
    "/{name}:execute",
    status_code=202,
    summary="Run a stored workflow",
    responses=doc.answers(
        202, "Accepted; follow `Location`.", "Run", doc.QUEUED, 400, 404, 409, 413, 415, 422, 429, 503
    ),
    openapi_extra=doc.body("Execution", doc.EXECUTION),
)
async def execute(request: Request, name: Name, idempotency_key: IdempotencyKey = None) -> JSONResponse:
    """As `POST runs` with `workflow_ref`; without `version` the newest one runs, and the run says which it was."""
    key = valid_key(idempotency_key)
    found = services(request)
    body = await json_object(request, found.settings.max_document_bytes)
    number = _check_execution(body)
    submission = {each: body[each] for each in body if each != "version"}
    submission["workflow_ref"] = name if number is None else f"{name}@{number}"
    try:
        return accepted_run(await found.runs.submit(tenant(request), submission, key, current_trace.get()))
    except UnknownWorkflow as error:
        raise NotFound(error.errors[0].detail) from None


@router.get(
    "/{name}",
    summary="Show a workflow",
    responses=doc.answers(200, "The version, with its document.", "WorkflowVersion", doc.VERSION, 400, 404, 503)
    | _UNCHANGED,
)
async def show(request: Request, name: Name, version: _Number = None, if_none_match: _IfNew = None) -> Response:
    """The newest version, or the one asked for; the latter also of a hidden workflow."""
    del if_none_match
    found = await services(request).library.version(tenant(request), name, version)
    return _unless_known(request, found, record_of(found))


@router.delete(
    "/{name}",
    summary="Hide a workflow",
    responses=doc.answers(200, "Hidden.", "StoredWorkflow", doc.HIDDEN, 400, 404, 412, 503),
)
async def hide(request: Request, name: Name, if_match: _IfMatch = None) -> JSONResponse:
    """Take it off the lists. Its versions can still be shown, called and run by number; storing it brings it back."""
    del if_match
    condition = Condition.of(request.headers)
    return JSONResponse(await services(request).library.hide(tenant(request), name, condition))


def _headers(record: Json) -> dict[str, str]:
    return {"ETag": etag_of(record["digest"]), "Cache-Control": "private, no-cache"}


def _unless_known(request: Request, found: Version, content: Json) -> Response:
    headers = _headers({"digest": found.digest})
    if Condition.of(request.headers).knows(headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return JSONResponse(content, headers=headers)


def _check_execution(body: Json) -> int | None:
    """Return the version asked for. Raises InvalidRequest; inputs and priority are the submission's to check."""
    wrong = [mistake(f"/{key}", "unknown-member", f"`{key}` is not known here") for key in body.keys() - _EXECUTION]
    number = body.get("version")
    if "version" in body and not (type(number) is int and 1 <= number <= MOST_VERSION):
        wrong.append(mistake("/version", "out-of-range", f"`version` must be a whole number from 1 to {MOST_VERSION}"))
    if wrong:
        raise InvalidRequest("the execution is not valid", errors=wrong)
    return number
