"""What the OpenAPI document says of each operation: schemas by name, examples that work."""

from typing import Any

Json = dict[str, Any]

DIGEST = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
ARTIFACT = {"digest": DIGEST, "media_type": "image/png", "size": 12345}
WORKFLOW = {
    "schema": "spindle.workflow/v1",
    "name": "poster",
    "inputs": {"subject": {"type": "string", "maxLength": 200, "default": "a large red circle on a blue background"}},
    "nodes": {"image": {"type": "image.generate@1", "inputs": {"prompt": {"$from": "inputs.subject"}, "seed": 7}}},
    "outputs": {"image": {"$from": "image.image"}},
}
STORED = {
    "name": "poster",
    "version": 3,
    "digest": DIGEST,
    "description": "A shape on a background.",
    "created_at": "2026-11-21T02:04:55.000Z",
}
_SECOND = {**STORED, "version": 2, "digest": "sha256:" + "4" * 64}
VERSION: Json = {**STORED, "size": 345, "workflow": WORKFLOW}
VERSION_PAGE = {"versions": [{**STORED, "size": 345}], "next": "3"}
WORKFLOW_ENTRY: Json = {**STORED, "updated_at": "2026-11-21T02:09:11.000Z"}
HIDDEN: Json = {**WORKFLOW_ENTRY, "hidden": True}
WORKFLOW_PAGE = {"workflows": [WORKFLOW_ENTRY], "next": "1763690951000.poster"}
DIFFERENCE: Json = {
    "name": "poster",
    "from": {name: _SECOND[name] for name in ("version", "digest")},
    "to": {name: STORED[name] for name in ("version", "digest")},
    "nodes": {"added": [], "removed": [], "changed": ["image"]},
    "patch": [{"op": "replace", "path": "/nodes/image/inputs/seed", "value": 7}],
}
EXECUTION: Json = {"inputs": {"subject": "a large green star on a black background"}, "version": 3}
IMPORT: Json = {
    "document": {
        "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
        "2": {
            "class_type": "ImageScale",
            "inputs": {"image": ["1", 0], "upscale_method": "lanczos", "width": 512, "height": 512, "crop": "center"},
        },
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "small"}},
    },
    "dialect": "comfyui",
}
IMPORTED: Json = {
    "workflow": {
        "schema": "spindle.workflow/v1",
        "name": "comfyui",
        "inputs": {"image": {"artifact": "image/*"}},
        "nodes": {"save_image": {"type": "image.save@1", "inputs": {"image": {"$from": "inputs.image"}}}},
        "outputs": {"small": {"$from": "save_image.image"}},
    },
    "notes": [],
    "dialect": "comfyui",
}
SUBMISSION = {"workflow": WORKFLOW, "inputs": {"subject": "a large green star on a black background"}, "priority": 0}
_RUN = {
    "id": "019a1b2c3d4e5f60718293a4b5",
    "created_at": "2026-11-21T02:04:55.000Z",
    "tenant": "default",
    "priority": 0,
    "workflow": {"name": "poster", "digest": DIGEST},
}
_STARTED = {**_RUN, "started_at": "2026-11-21T02:04:55.004Z"}
_INPUTS = {"subject": "a large green star on a black background"}
_NODE = {"type": "image.generate@1", "status": "completed", "attempt": 1, "outputs": {"image": ARTIFACT}}
QUEUED: Json = {**_RUN, "status": "queued", "inputs": _INPUTS, "outputs": {}, "nodes": {}}
COMPLETED: Json = {
    **_STARTED,
    "status": "completed",
    "ended_at": "2026-11-21T02:04:56.100Z",
    "inputs": _INPUTS,
    "outputs": {"image": ARTIFACT},
    "nodes": {"image": _NODE},
}
CANCELLED: Json = {
    **_STARTED,
    "status": "cancelled",
    "ended_at": "2026-11-21T02:04:55.500Z",
    "inputs": _INPUTS,
    "outputs": {},
    "nodes": {"image": {"type": "image.generate@1", "status": "cancelled", "attempt": 1, "outputs": {}}},
}
_INTERRUPTED = {"type": "image.generate@1", "status": "queued", "attempt": 0, "outputs": {}}
RUNNING: Json = {**_STARTED, "status": "running", "inputs": _INPUTS, "outputs": {}, "nodes": {"image": _INTERRUPTED}}
PAUSED: Json = {**RUNNING, "status": "paused"}
RETRIED: Json = {**QUEUED, "id": "019a1b2c4f00a1b2c3d4e5f607", "parent": _RUN["id"], "reason": "retry"}
WHY: Json = {
    "path": "image",
    "type": "image.generate@1",
    "status": "queued",
    "attempt": 0,
    "because": "2 of your tasks come before it in the queue `gpu`, which has 1 slot",
    "waits_for": [],
    "queue": {"name": "gpu", "position": 3, "waiting": 7, "slots": 1},
}
FORK: Json = {"patch": {"nodes": {"image": {"inputs": {"seed": 8}}}}}
FORK_PLAN: Json = {"reuse": ["prompt"], "run": ["image"], "skip": []}
FORKED: Json = {**RETRIED, "reason": "fork"}
DEAD_LETTER: Json = {
    "id": "1763690695000-0",
    "time": "2026-11-21T02:04:55.000Z",
    "run": _RUN["id"],
    "queue": "gpu",
    "nodes": ["image"],
    "attempts": 3,
    "problem": {
        "type": "urn:spindle:problem:crashed",
        "title": "The worker died while it ran this node",
        "status": 500,
    },
    "history": [{"attempt": 1, "cause": "crash", "worker": "laptop-4711-a1b2", "time": "2026-11-21T02:04:35.000Z"}],
}
DEAD_LETTER_PAGE = {"dead_letters": [DEAD_LETTER], "next": DEAD_LETTER["id"]}
KEPT: Json = {"entries": 118, "bytes": 40210, "hits": 930, "misses": 121, "hit_rate": 0.8849}
PURGED = {"entries": 118}
RUN_PAGE = {"runs": [{**_STARTED, "status": "running"}], "next": f"1763690695000.{_RUN['id']}"}
NODE_PAGE = {"nodes": [{"path": "image", **_NODE}], "next": "image"}
EVENT: Json = {
    "id": "1763690695000-0",
    "type": "run.queued",
    "run": _RUN["id"],
    "time": "2026-11-21T02:04:55.000Z",
    "data": {},
}
EVENT_PAGE = {"events": [EVENT], "next": EVENT["id"]}
TICKET = {"ticket": "k3JtY2V2b3h4bHJ0c2F3ZTJ6Y3E4Z2d1b2V5d2lxcw", "expires_at": "2026-11-21T02:05:25Z"}
_CHART = 'flowchart TD\n  n0_0["image<br/>image.generate@1 · gpu"]\n'
VALIDATION = {"valid": True, "digest": DIGEST, "warnings": [], "plan": {}, "mermaid": _CHART}
NODE_TYPE: Json = {
    "type": "text.template@1",
    "title": "Fill in a template",
    "inputs": {"template": {"kind": "value", "schema": {"type": "string"}, "required": True}},
    "outputs": {"text": {"kind": "value", "schema": {"type": "string"}}},
    "queues": [],
}
NODE_TYPES = {"node_types": [NODE_TYPE]}
WORKERS: Json = {
    "workers": [
        {
            "id": "laptop-4711-a1b2",
            "version": "0.1.0",
            "host": "laptop",
            "metrics_url": "http://127.0.0.1:8421/metrics",
            "since": "2026-11-21T02:00:00.000Z",
            "slots": {"cpu": 2, "async": 64},
            "node_types": ["text.template@1"],
            "models": [],
            "refused": [],
        }
    ]
}
QUEUES = {"queues": [{"queue": "cpu", "slots": 2, "waiting": 0, "running": 1, "oldest_seconds": 0.0}]}
TARGETS = [{"targets": ["127.0.0.1:8421"], "labels": {"worker": "laptop-4711-a1b2", "host": "laptop"}}]
HEALTH = {"status": "ok", "version": "0.1.0", "parts": {"database": {"ok": True, "milliseconds": 0.4}}}

_PROBLEMS = {
    400: ("invalid-request", "The request is not valid"),
    401: ("unauthorized", "An API key is needed"),
    403: ("forbidden", "This is not allowed"),
    404: ("not-found", "There is no such thing"),
    409: ("idempotency-mismatch", "This Idempotency-Key was used for another request"),
    412: ("precondition-failed", "The thing is no longer what the request says it is"),
    413: ("too-large", "The body is too large"),
    415: ("unsupported-media-type", "The media type is not taken here"),
    416: ("range-not-satisfiable", "The range lies outside the content"),
    422: ("invalid-workflow", "The workflow is not valid"),
    429: ("too-many-requests", "Too much work is queued"),
    503: ("unavailable", "A part that Spindle needs is away"),
}
_MISTAKE = {
    "pointer": "/workflow/nodes/image/type",
    "code": "unknown-type",
    "detail": "No worker has announced image.generat@1.",
    "hint": "Did you mean image.generate@1?",
    "severity": "error",
}


def ref(name: str) -> Json:
    """Refer to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


_CONFLICTS = {
    "not-waiting": "The node does not wait for an answer",
    "run-ended": "The run has ended",
    "run-not-ended": "The run has not ended",
    "too-many-versions": "The workflow has too many versions",
}


def problem(status: int, code: str | None = None) -> Json:
    """Describe a refusal; `code` where it is another than is usual for this status."""
    code, title = (code, _CONFLICTS[code]) if code else _PROBLEMS[status]
    example: Json = {"type": f"urn:spindle:problem:{code}", "title": title, "status": status}
    example |= {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}
    if status == 422:
        example["errors"] = [_MISTAKE]
    content = {"application/problem+json": {"schema": ref("Problem"), "example": example}}
    return {"description": f"{title}.", "content": content}


ANY_PROBLEM: dict[int | str, Any] = {
    "default": {
        "description": "Any other problem.",
        "content": {"application/problem+json": {"schema": ref("Problem")}},
    }
}


def answers(
    status: int, description: str, schema: str, example: object, *problems: int | tuple[int, str]
) -> dict[int | str, Any]:
    """Describe an operation's replies: the good one in JSON, the problems by status, the rest as problems too."""
    good = {"description": description, "content": {"application/json": {"schema": ref(schema), "example": example}}}
    found: dict[int | str, Any] = {status: good}
    codes: dict[int, str | None] = {401: None, 403: None}
    codes |= dict(each if isinstance(each, tuple) else (each, None) for each in problems)
    for each in sorted(codes):
        found[each] = problem(each, codes[each])
    return found | ANY_PROBLEM


def body(schema: str, example: object) -> Json:
    """Describe a JSON body that the route reads itself."""
    content = {"application/json": {"schema": ref(schema), "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def event_stream() -> dict[int | str, Any]:
    """Describe the stream beside the page of events."""
    text = 'id: 1763690695000-0\ndata: {"id":"1763690695000-0","type":"run.queued"}\n\n'
    content = {
        "application/json": {"schema": ref("EventPage"), "example": EVENT_PAGE},
        "text/event-stream": {"schema": {"type": "string"}, "example": text},
    }
    return {
        200: {"description": "A page as JSON, or server-sent events.", "content": content},
        204: {"description": "The run has ended and the cursor is at its end: do not reconnect."},
    }
