"""The AsyncAPI 3.0 document of the event feeds, built from the event's contract."""

from typing import Any

from spindle_control.openapi import contract_schemas

Json = dict[str, Any]

_SENTENCE = {
    "run.queued": "The run was accepted.",
    "run.started": "A control drives it.",
    "run.paused": "It waits for an answer or a deadline.",
    "run.completed": "It ended well; `data.outputs` holds what it gives. The last event.",
    "run.failed": "It failed; `data.problem` tells why. The last event.",
    "run.cancelled": "It was cancelled. The last event.",
    "node.queued": "A node waits for a worker.",
    "node.started": "A worker runs it.",
    "node.progress": "A tick: `data.done` of `data.total`. Lossy, no id.",
    "node.preview": "A picture on its way: base64 JPEG. Lossy, no id.",
    "node.waiting": "It waits for an answer.",
    "node.completed": "It ended well; `data.outputs` holds what it gave.",
    "node.failed": "It failed; `data.problem` tells why.",
    "node.skipped": "It was not run; `data.reason` tells why.",
    "node.retrying": "It failed and will be tried again.",
    "gap": "Events before this one are lost; `data.snapshot` is the run as it is. No id.",
    "bye": "The stream ends here though the run may go on: reconnect with `after` = `data.after`. No id.",
}
_EXAMPLES: Json = {
    "run.queued": {"data": {}},
    "node.progress": {"node": "image", "attempt": 1, "data": {"done": 7, "total": 20}},
    "bye": {"data": {"reason": "slow", "after": "1763690695000-0"}},
}
_LOSSY = frozenset({"node.progress", "node.preview", "gap", "bye"})
_CLOSE_CODES = """One event as JSON in each text message. The socket closes with

* 1000 after the run's last event,
* 1013 when the client reads too slowly or a part that is needed went away, 1001 when the server stops: reconnect with
  `after` set to the last id seen,
* 4404 when there is no such run, 4400 when the cursor is not one.

API keys go into `Authorization` or `X-API-Key`, or from a browser into the subprotocols: offer `spindle.v1` and
`base64url.bearer.authorization.spindle.<base64url(key)>`. The server pings every 20 seconds."""
_SSE = """The same events as server-sent events: `id:` only for durable ones, so that `Last-Event-ID` is the cursor when
a browser reconnects. Without header fields use `?ticket=` from POST /api/v1/sse-tickets. 204 says that there is no
more."""


def document(version: str, server: str) -> Json:
    """Build the document for a server's `host:port`."""
    messages = {name: _message(name, sentence) for name, sentence in _SENTENCE.items()}
    channel = {name: {"$ref": f"#/components/messages/{name}"} for name in messages}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Spindle's events",
            "version": version,
            "description": "What happens to a run: durable events with ids that are the cursor, lossy ticks without.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "websocket": {"host": server, "protocol": "ws", "description": "WebSocket"},
            "sse": {"host": server, "protocol": "http", "description": "Server-sent events"},
        },
        "channels": {
            "run": _channel("/api/v1/runs/{run}/ws", "websocket", _CLOSE_CODES, channel),
            "runAsServerSent": _channel("/api/v1/runs/{run}/events", "sse", _SSE, channel),
        },
        "operations": {
            name: {
                "action": "send",
                "channel": {"$ref": f"#/channels/{on}"},
                "summary": "Replay from the cursor, then follow to the run's end.",
            }
            for name, on in (("follow", "run"), ("followAsServerSent", "runAsServerSent"))
        },
        "components": {"messages": messages, "schemas": _schemas()},
    }


def _schemas() -> Json:
    return {"Event": contract_schemas("#/components/schemas/")["Event"]}


def _channel(address: str, server: str, description: str, messages: Json) -> Json:
    found: Json = {
        "address": address,
        "description": description,
        "servers": [{"$ref": f"#/servers/{server}"}],
        "parameters": {"run": {"description": "The run's id."}},
        "messages": messages,
    }
    if server == "websocket":
        after = {"type": "string", "description": "Cursor: the id of the last event seen."}
        query = {"type": "object", "properties": {"after": after}}
        found["bindings"] = {"ws": {"method": "GET", "query": query, "bindingVersion": "0.1.0"}}
    return found


def _message(name: str, sentence: str) -> Json:
    payload: Json = {
        "allOf": [{"$ref": "#/components/schemas/Event"}, {"properties": {"type": {"const": name}}}],
    }
    if name not in _LOSSY:
        payload["allOf"][1]["required"] = ["id", "run"]
    message: Json = {"name": name, "title": name, "summary": sentence, "payload": payload}
    if name in _EXAMPLES:
        common = {"type": name, "run": "019a1b2c3d4e5f60718293a4b5", "time": "2026-11-21T02:04:55.000Z"}
        cursor = {} if name in _LOSSY else {"id": "1763690695000-0"}
        message["examples"] = [{"name": name, "payload": cursor | common | _EXAMPLES[name]}]
    return message
