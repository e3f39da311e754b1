"""What is inside a run: pages of its nodes, why one is as it is, and answers to those that ask."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse

from spindle_control import explaining, instances
from spindle_control.answers import give_answer
from spindle_control.api import PREFIX, services, tenant
from spindle_control.bodies import json_object
from spindle_control.ledgers import Ledger
from spindle_control.paths import Nodes
from spindle_control.routes import documented as doc
from spindle_control.routes.runs import Limit

router = APIRouter(prefix=f"{PREFIX}/runs/{{run_id}}/nodes", tags=["runs"])

_STATUSES = "pending|queued|running|waiting|completed|failed|skipped|cancelled"
Under = Annotated[str | None, Query(description="Only this node and what is inside it.", max_length=2000)]
Status = Annotated[str | None, Query(description="Only nodes in this state.", pattern=f"^({_STATUSES})$")]
After = Annotated[str | None, Query(description="Cursor: `next` of the page before, a path.", max_length=2000)]


@router.get(
    "",
    summary="Page through a run's nodes",
    responses=doc.answers(200, "A page.", "NodePage", doc.NODE_PAGE, 400, 404, 503),
)
async def page(
    request: Request, run_id: str, under: Under = None, status: Status = None, after: After = None, limit: Limit = 100
) -> JSONResponse:
    """Records in order of their paths, of instances of maps and loops and of what is inside them as well.

    What is inside a node follows it, items by their number: `vars`, `vars[0]`, `vars[0].image`, …, `vars[10]`.
    """
    found = services(request)
    row = await found.store.run(run_id, tenant(request))
    ledger = await Ledger.of(found.operations.parts.queue, row)
    nodes = Nodes(row.workflow, await found.library.called(row.tenant, row.workflow))
    return JSONResponse(await instances.page(ledger, nodes, instances.Wanted(under, status, after or None, limit)))


@router.get(
    "/{path}/why",
    summary="Explain a node",
    responses=doc.answers(200, "Why it is as it is.", "Why", doc.WHY, 404, 503),
)
async def why(request: Request, run_id: str, path: str) -> JSONResponse:
    """Say what a node waits for, where it stands in its queue, why it was skipped, or whose result it took over."""
    found = services(request)
    row = await found.store.run(run_id, tenant(request))
    return JSONResponse(await explaining.why(found.operations.parts, found.library, row, path))


@router.post(
    "/{path}:answer",
    summary="Answer a node that waits for a person",
    responses=doc.answers(200, "The run, going on.", "Run", doc.RUNNING, 400, 404, (409, "not-waiting"), 413, 415, 503),
    openapi_extra=doc.body("Answer", {"answer": {"yes": True}}),
)
async def answer(request: Request, run_id: str, path: str) -> JSONResponse:
    """Give a `flow.approve` node its answer; the first one counts. A run that was parked goes on."""
    found = services(request)
    body = await json_object(request, found.settings.max_document_bytes)
    return JSONResponse(await give_answer(found.operations, run_id, tenant(request), path, body))
