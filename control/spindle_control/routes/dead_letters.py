"""Dead letters: tasks that used up their budget of crashes; their runs have failed, and can be repeated."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse

from spindle_control.api import PREFIX, services, tenant
from spindle_control.routes import documented as doc
from spindle_control.routes.runs import After, accepted_run

router = APIRouter(prefix=f"{PREFIX}/dead-letters", tags=["dead-letters"])


@router.get(
    "",
    summary="List dead letters, newest first",
    responses=doc.answers(200, "A page.", "DeadLetterPage", doc.DEAD_LETTER_PAGE, 400, 503),
)
async def page(
    request: Request,
    after: After = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most entries of a page.")] = 50,
) -> JSONResponse:
    """Tasks whose worker died, or fell silent, as often as their budget allows, with what happened to each attempt."""
    return JSONResponse(await services(request).operations.dead_letters(tenant(request), after or None, limit))


@router.post(
    "/{letter}:redrive",
    status_code=202,
    summary="Repeat the run of a dead letter",
    responses=doc.answers(
        202, "The new run; follow `Location`.", "Run", doc.RETRIED, 404, (409, "run-not-ended"), 422, 429, 503
    ),
)
async def redrive(
    request: Request, letter: Annotated[str, Path(description="Id of the dead letter.", examples=["1763690695000-0"])]
) -> JSONResponse:
    """Make a new run that re-uses completed nodes, as `:retry` does, and forget the letter."""
    return accepted_run(await services(request).operations.redrive(letter, tenant(request)))
