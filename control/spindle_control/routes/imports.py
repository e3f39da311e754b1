"""Imports: another program's workflow in, ours out, or everything that is in the way.

A body is the foreign document itself, `{"document": …, "dialect", "models", "services"}` around it, or a PNG that
ComfyUI made.
"""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from spindle_common.contracts import Mistake
from spindle_common.problems import InvalidRequest, mistake
from spindle_control.api import PREFIX, Json, services
from spindle_control.bodies import json_object, limited, media_type
from spindle_control.importers import DIALECTS, Imported, Options, import_document, import_png
from spindle_control.routes import documented as doc

router = APIRouter(prefix=PREFIX, tags=["workflows"])

MAX_PNG = 64 * 1024 * 1024
"""Bytes of a picture that is looked through for its graph."""
_KEYS = {"document", "dialect", "models", "services"}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": doc.ref("ImportRequest"), "example": doc.IMPORT},
            "image/png": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.post(
    "/workflows:import",
    summary="Import another program's workflow",
    responses=doc.answers(200, "The workflow, and notes.", "Imported", doc.IMPORTED, 400, 413, 415, 422),
    openapi_extra=_BODY,
)
async def import_(request: Request) -> JSONResponse:
    """Make a workflow of a ComfyUI or langgraph.v1 document, or of a picture that ComfyUI made. Nothing is stored."""
    found = services(request)
    offered = found.registry.catalog()
    if media_type(request) == "image/png":
        content = b"".join([chunk async for chunk in limited(request, MAX_PNG)])
        return JSONResponse(_told(import_png(content, catalog=offered)))
    body = await json_object(request, found.settings.max_document_bytes)
    document, dialect, options = _asked(body)
    return JSONResponse(_told(import_document(document, dialect, options, offered)))


def _asked(body: Json) -> tuple[Any, str | None, Options]:
    """Take the document out of what may stand around it. Raises InvalidRequest."""
    if "document" not in body or not body.keys() <= _KEYS:
        return body, None, Options()
    wrong = _wrong(body)
    if wrong:
        raise InvalidRequest("What stands around the document is not valid.", errors=wrong)
    options = Options(dict(body.get("models", {})), dict(body.get("services", {})))
    return body["document"], body.get("dialect"), options


def _wrong(body: Json) -> list[Mistake]:
    found = []
    if body.get("dialect") not in {None, *DIALECTS}:
        found.append(mistake("/dialect", "unknown-dialect", "There are: " + ", ".join(DIALECTS) + "."))
    models = body.get("models", {})
    if not isinstance(models, dict) or not all(isinstance(name, str) for name in models.values()):
        found.append(mistake("/models", "wrong-type", "Write {file: name of a model}."))
    if not isinstance(body.get("services", {}), dict):
        found.append(mistake("/services", "wrong-type", "Write {service: {type, …}}; see docs/langgraph.md."))
    return found


def _told(imported: Imported) -> Json:
    notes = [note.model_dump(mode="json") for note in imported.notes]
    return {"workflow": imported.workflow, "notes": notes, "dialect": imported.dialect}
