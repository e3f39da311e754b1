"""Runs: accept, show, list, cancel, pause, resume, retry, fork. What is inside them: `nodes`."""

import re
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse

from spindle_common.durations import parse_duration
from spindle_common.problems import InvalidRequest, mistake
from spindle_common.telemetry import current_trace
from spindle_control.api import PREFIX, Json, services, tenant
from spindle_control.bodies import json_object
from spindle_control.records import record_of
from spindle_control.routes import documented as doc
from spindle_control.rows import RunRow
from spindle_control.tables import ENDED, OPEN

router = APIRouter(prefix=f"{PREFIX}/runs", tags=["runs"])

MAX_WAIT = 60.0
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
Limit = Annotated[int, Query(ge=1, le=1000, description="Most entries of a page.")]
After = Annotated[str | None, Query(description="Cursor: `next` of the page before.", max_length=200)]
IdempotencyKey = Annotated[
    str | None, Header(description="Repeating a request with its key gives the same run.", examples=["b3f1"])
]


def accepted(record: Json) -> JSONResponse:
    """Answer 202 with a run's record and where it is."""
    return JSONResponse(record, status_code=202, headers={"Location": f"{PREFIX}/runs/{record['id']}"})


def accepted_run(row: RunRow) -> JSONResponse:
    """Answer 202 with the record of a run that was accepted just now."""
    return accepted(record_of(row, row.nodes or {}, {}))


def valid_key(key: str | None) -> str | None:
    """Return the Idempotency-Key. Raises InvalidRequest where it is none."""
    if key is not None and not _KEY.fullmatch(key):
        wrong = mistake("/headers/idempotency-key", "idempotency-key", "1 to 255 printable ASCII characters.")
        raise InvalidRequest("The Idempotency-Key is not valid.", errors=[wrong])
    return key


@router.post(
    "",
    status_code=202,
    summary="Submit a workflow",
    responses=doc.answers(202, "Accepted; follow `Location`.", "Run", doc.QUEUED, 400, 409, 413, 415, 422, 429, 503),
    openapi_extra=doc.body("Submission", doc.SUBMISSION),
)
async def submit(request: Request, idempotency_key: IdempotencyKey = None) -> JSONResponse:
    """Check the workflow, keep the run, start it. Every mistake is reported at once."""
    key = valid_key(idempotency_key)
    found = services(request)
    body = await json_object(request, found.settings.max_document_bytes)
    return accepted_run(await found.runs.submit(tenant(request), body, key, current_trace.get()))


@router.get(
    "", summary="List runs, newest first", responses=doc.answers(200, "A page.", "RunPage", doc.RUN_PAGE, 400, 503)
)
async def page(
    request: Request,
    status: Annotated[
        str | None, Query(description="Only runs in this state.", pattern=f"^({'|'.join(OPEN + ENDED)})$")
    ] = None,
    after: After = None,
    limit: Limit = 50,
) -> JSONResponse:
    """Runs without their inputs, outputs and nodes."""
    return JSONResponse(await services(request).runs.page(tenant(request), status, after or None, limit))


@router.get(
    "/{run_id}", summary="Show a run", responses=doc.answers(200, "The run.", "Run", doc.COMPLETED, 400, 404, 503)
)
async def show(
    request: Request,
    run_id: str,
    wait: Annotated[
        str | None, Query(description="Answer once the run has ended, or after this long at most.", examples=["30s"])
    ] = None,
) -> JSONResponse:
    """The run as it is now: nodes, outputs, problem."""
    return JSONResponse(await services(request).runs.record(run_id, tenant(request), _seconds(wait)))


@router.post(
    "/{run_id}:cancel",
    summary="Cancel a run",
    responses=doc.answers(200, "The run; unchanged where it had ended.", "Run", doc.CANCELLED, 404, 503),
)
async def cancel(request: Request, run_id: str) -> JSONResponse:
    """End a run at once; its workers stop within two seconds."""
    return JSONResponse(await services(request).operations.cancel(run_id, tenant(request)))


@router.post(
    "/{run_id}:pause",
    status_code=202,
    summary="Pause a run",
    responses=doc.answers(202, "The run, paused.", "Run", doc.PAUSED, 404, (409, "run-ended"), 503),
)
async def pause(request: Request, run_id: str) -> JSONResponse:
    """Let what runs end and start nothing else; the run then needs neither memory nor Redis until it is resumed."""
    return accepted(await services(request).operations.pause(run_id, tenant(request)))


@router.post(
    "/{run_id}:resume",
    status_code=202,
    summary="Resume a paused run",
    responses=doc.answers(202, "The run, going on.", "Run", doc.RUNNING, 404, (409, "run-ended"), 503),
)
async def resume(request: Request, run_id: str) -> JSONResponse:
    """Go on where the run was paused; one that is not paused stays as it is."""
    return accepted(await services(request).operations.resume(run_id, tenant(request)))


@router.post(
    "/{run_id}:fork",
    status_code=202,
    summary="Repeat a run that has ended with something changed",
    responses=doc.answers(
        202,
        "The new run; follow `Location`.",
        "Run",
        doc.FORKED,
        400,
        404,
        (409, "run-not-ended"),
        413,
        415,
        422,
        429,
        503,
    )
    | doc.answers(200, "With `dry_run`: what would be re-used, run and skipped.", "ForkPlan", doc.FORK_PLAN),
    openapi_extra=doc.body("Fork", doc.FORK),
)
async def fork(
    request: Request,
    run_id: str,
    dry_run: Annotated[bool, Query(description="Only tell what would be re-used and what would run.")] = False,
    idempotency_key: IdempotencyKey = None,
) -> JSONResponse:
    """Make a new run, its `parent` this one, that runs what the change concerns and re-uses everything else.

    A node is re-used if it completed, is written as it was, and all that it reads is the same and re-used. Nodes named
    in `from` run again, and so does all that needs them.
    """
    key = valid_key(idempotency_key)
    found = services(request)
    wish = await json_object(request, found.settings.max_document_bytes)
    if dry_run:
        return JSONResponse(await found.operations.foresee(run_id, tenant(request), wish))
    return accepted_run(await found.operations.fork(run_id, tenant(request), wish, key))


@router.post(
    "/{run_id}:retry",
    status_code=202,
    summary="Repeat a run that has ended",
    responses=doc.answers(
        202, "The new run; follow `Location`.", "Run", doc.RETRIED, 400, 404, (409, "run-not-ended"), 422, 429, 503
    ),
)
async def retry(request: Request, run_id: str, idempotency_key: IdempotencyKey = None) -> JSONResponse:
    """Make a new run, its `parent` this one, of the same workflow, inputs and seeds; completed nodes are re-used."""
    key = valid_key(idempotency_key)
    return accepted_run(await services(request).operations.retry(run_id, tenant(request), key))


def _seconds(wait: str | None) -> float:
    if not wait:
        return 0
    try:
        return min(MAX_WAIT, parse_duration(wait))
    except ValueError:
        wrong = mistake("/query/wait", "duration", f"{wait[:40]!r} is no duration.", "Write it like 30s.")
        raise InvalidRequest("The request's parameters are not valid.", errors=[wrong]) from None
