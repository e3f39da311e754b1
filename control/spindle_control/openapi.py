"""The OpenAPI document: operations from the routes, schemas from the contracts.

OpenAPI 3.1 speaks JSON Schema 2020-12, so the schemas in `spindle_common.contracts` stand in it as they are, with their
references turned to its own components.
"""

import json
from importlib import resources
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

Json = dict[str, Any]

_FILES = ("artifact", "dead_letter", "event", "manifest", "problem", "run", "task", "workflow")
_TEXT: Json = {"type": "string"}
_CURSOR: Json = {"type": ["string", "null"], "description": "Cursor of the next page; null at the end."}


_TIME: Json = {"type": "string", "format": "date-time"}
_NUMBER: Json = {"type": "integer", "minimum": 1, "maximum": 999_999_999}
_IDENTITY: dict[str, Json] = {"name": _TEXT, "version": _NUMBER, "digest": _TEXT}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: dict[str, Json], **optional: Json) -> Json:
    return {"type": "object", "required": list(required), "properties": required | optional}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


_OWN: dict[str, Json] = {
    "RunPage": _object({"runs": _list(_ref("Run")), "next": _CURSOR}),
    "NodePage": _object(
        {"nodes": _list({"allOf": [_ref("NodeRecord"), _object({"path": _TEXT})]}), "next": _CURSOR},
    ),
    "EventPage": _object({"events": _list(_ref("Event")), "next": _CURSOR}),
    "Why": _object(
        {
            "path": _TEXT,
            "type": _TEXT,
            "status": _TEXT,
            "because": _TEXT,
            "waits_for": _list(_object({"node": _TEXT, "status": _TEXT})),
            "queue": {"type": ["object", "null"]},
        },
        attempt={"type": "integer"},
        history=_list({"type": "object"}),
        next_attempt_at=_TIME,
        skipped={"type": "object"},
        reused_from=_TEXT,
        question=_ref("Question"),
        problem=_ref("Problem"),
    ),
    "ForkPlan": _object({name: _list(_TEXT) for name in ("reuse", "run", "skip")}),
    "DeadLetterPage": _object({"dead_letters": _list(_ref("DeadLetter")), "next": _CURSOR}),
    "Kept": _object(
        {name: {"type": "integer", "minimum": 0} for name in ("entries", "bytes", "hits", "misses")}
        | {"hit_rate": {"type": ["number", "null"], "description": "null before the first look."}}
    ),
    "Purged": _object({"entries": {"type": "integer", "minimum": 0}}),
    "Validation": _object(
        {
            "valid": {"const": True},
            "digest": _TEXT,
            "warnings": _list(_ref("Mistake")),
            "plan": {"type": "object"},
            "mermaid": _TEXT,
        },
    ),
    "ImportRequest": {"type": "object", "description": "A foreign document, or an object with one as `document`."},
    "Imported": _object({"workflow": _ref("Workflow"), "notes": _list(_ref("Mistake")), "dialect": _TEXT}),
    "StoredWorkflow": _object(_IDENTITY, description=_TEXT, created_at=_TIME, updated_at=_TIME, hidden={"const": True}),
    "StoredWorkflowPage": _object({"workflows": _list(_ref("StoredWorkflow")), "next": _CURSOR}),
    "WorkflowVersion": _object(
        _IDENTITY, size={"type": "integer"}, description=_TEXT, created_at=_TIME, workflow=_ref("Workflow")
    ),
    "WorkflowVersionPage": _object({"versions": _list(_ref("WorkflowVersion")), "next": _CURSOR}),
    "WorkflowDifference": _object(
        {
            "name": _TEXT,
            "from": _object({"version": _NUMBER, "digest": _TEXT}),
            "to": _object({"version": _NUMBER, "digest": _TEXT}),
            "nodes": _object({name: _list(_TEXT) for name in ("added", "removed", "changed")}),
            "patch": _list(_object({"op": {"enum": ["add", "remove", "replace"]}, "path": _TEXT}, value={})),
        }
    ),
    "Execution": {
        **_object(
            {},
            inputs={"type": "object", "additionalProperties": True, "default": {}},
            priority={"type": "integer", "minimum": -100, "maximum": 100, "default": 0},
            version=_NUMBER | {"description": "The newest where none is named."},
        ),
        "additionalProperties": False,
    },
    "Ticket": _object({"ticket": _TEXT, "expires_at": {"type": "string", "format": "date-time"}}),
    "NodeTypes": _object({"node_types": _list(_ref("NodeType"))}),
    "Workers": _object({"workers": _list(_object({"id": _TEXT, "version": _TEXT, "slots": {"type": "object"}}))}),
    "Queues": _object(
        {
            "queues": _list(
                _object(
                    {"queue": _TEXT} | {name: {"type": "integer"} for name in ("slots", "waiting", "running")},
                    oldest_seconds={"type": "number"},
                )
            )
        }
    ),
    "PrometheusTargets": _list(
        _object({"targets": _list(_TEXT), "labels": {"type": "object", "additionalProperties": _TEXT}})
    ),
    "Health": _object(
        {
            "status": {"enum": ["ok", "unavailable"]},
            "version": _TEXT,
            "parts": {
                "type": "object",
                "additionalProperties": _object(
                    {"ok": {"type": "boolean"}}, milliseconds={"type": "number"}, detail=_TEXT
                ),
            },
        }
    ),
}


def document(app: FastAPI) -> Json:
    """Build the document once; afterwards it is the same object."""
    if app.openapi_schema is None:
        found = get_openapi(
            title=app.title, version=app.version, summary=app.summary, description=app.description, routes=app.routes
        )
        components = found.setdefault("components", {})
        components["schemas"] = contract_schemas("#/components/schemas/") | _OWN
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "description": "Where API keys exist."},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        found["security"] = [{}, {"bearer": []}, {"key": []}]
        app.openapi_schema = found
    return app.openapi_schema


def contract_schemas(prefix: str) -> dict[str, Json]:
    """Return every contract by its title, with references that begin with `prefix`."""
    files = {name: _load(name) for name in _FILES}
    titles = {f"{name}.schema.json": str(schema["title"]) for name, schema in files.items()}
    found: dict[str, Json] = {}
    for schema in files.values():
        inner = schema.pop("$defs", {})
        for name, each in {str(schema["title"]): schema, **inner}.items():
            found[name] = _relinked({k: v for k, v in each.items() if k not in ("$schema", "$id")}, prefix, titles)
    return found


def _load(name: str) -> Json:
    text = (resources.files("spindle_common.contracts") / f"{name}.schema.json").read_text()
    loaded: Json = json.loads(text)
    return loaded


def _relinked(value: Any, prefix: str, titles: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_relinked(each, prefix, titles) for each in value]
    if not isinstance(value, dict):
        return value
    found = {key: _relinked(each, prefix, titles) for key, each in value.items()}
    if isinstance(reference := value.get("$ref"), str):
        file, _, inside = reference.partition("#")
        inside = inside.removeprefix("/$defs/")
        found["$ref"] = prefix + (inside or titles[file])
    return found
