"""Tables of the pages about the language, from what decides: the workflow's schema, the settings, the compiler.

schema, settings, codes -> rows -> between the marks `<!-- table: NAME -->` and `<!-- end -->` of a page
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from spindle_common import cel_text, expressions
from spindle_control import bodies, calls
from spindle_control.compiler import Limits
from spindle_control.compiler.codes import CODES
from spindle_control.compiler.flow_types import COMMON, FLOW_KEYS, FLOWS
from spindle_control.settings import ControlSettings

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parent.parent / "common" / "schemas" / "workflow.schema.json").read_text()
)
_NODE: dict[str, Any] = SCHEMA["$defs"]["WorkflowNode"]
_MARKED = re.compile(r"(<!-- table: ([a-z.@0-9-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_KINDS = {
    "InputSpec": "JSON Schema",
    "Duration": "duration",
    "Timeouts": "`{queue, run, idle}`",
    "RetryPolicy": "`{max_attempts, backoff}`",
    "QueueName": "name",
    "Body": "body",
    "Id": "id",
}
_FREE = {"over": "list", "default": "value", "answer": "JSON Schema"}
_UNSAID: tuple[Any, ...] = (None, {}, [])
Row = tuple[str, ...]


def with_tables(page: str) -> str:
    """Return the page with each marked table made anew. Raises KeyError for a table that there is not."""
    return _MARKED.sub(lambda mark: f"{mark[1]}\n{TABLES[mark[2]]()}\n\n{mark[3]}", page)


def _table(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


# Keys of the document ----------------------------------------------------------------------------------------------


def _keys(properties: Mapping[str, Any], required: Iterable[str], names: Iterable[str]) -> str:
    rows = (_key(name, properties[name], required=name in required) for name in names)
    return _table(("key", "value", ""), rows)


def _key(name: str, schema: Mapping[str, Any], *, required: bool) -> Row:
    said = re.sub(r"^flow\.\w+( and flow\.\w+)?: ", "", schema.get("description", ""))
    text = said[:1].upper() + said[1:]
    text += " **Required.**" if required else ""
    if schema.get("default") not in _UNSAID and "enum" not in schema:
        text += f" Default `{json.dumps(schema['default'])}`."
    return f"`{name}`", _kind(name, schema), text.strip()


def _kind(name: str, schema: Mapping[str, Any]) -> str:
    if name in _FREE:
        return _FREE[name]
    if "$ref" in schema:
        return _KINDS[schema["$ref"].rpartition("/")[2]]
    if "const" in schema:
        return f'`"{schema["const"]}"`'
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in sorted(schema["enum"], key=lambda v: v != schema.get("default")))
    if "anyOf" in schema:
        return " or ".join(_kind(name, branch) for branch in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_kind('', schema['items'])}s"
    if schema.get("type") == "integer":
        return f"{schema.get('minimum')} to {schema['maximum']:,}"
    return "CEL" if name in ("when", "until") else "text" if schema.get("type") == "string" else schema["type"]


def _document() -> str:
    return _keys(SCHEMA["properties"], SCHEMA["required"], SCHEMA["properties"])


def _part(name: str) -> str:
    part = SCHEMA["$defs"][name]
    return _keys(part["properties"], part.get("required", ()), part["properties"])


def _node() -> str:
    return _keys(
        _NODE["properties"], _NODE["required"], [name for name in _NODE["properties"] if name not in FLOW_KEYS]
    )


def _flow(name: str) -> str:
    flow = FLOWS[name]
    keys = [*flow.required, *flow.optional]
    described = dict(_NODE["properties"])
    described["body"] = {"$ref": "Body", "description": "The nodes that run, and what they give."}
    described["inputs"] = described["inputs"] | {"description": "What the workflow is given, by its inputs."}
    return _keys(described, flow.required, keys)


def _common() -> str:
    return _keys(_NODE["properties"], _NODE["required"], [name for name in _NODE["properties"] if name in COMMON])


# Bounds and codes --------------------------------------------------------------------------------------------------


def _limits() -> str:
    limits, properties = Limits(), SCHEMA["properties"]
    said = {
        "inputs, outputs of a workflow or body": properties["inputs"]["maxProperties"],
        "ids in `after`": _NODE["properties"]["after"]["maxItems"],
        "items of a map under way at once": _NODE["properties"]["concurrency"]["maximum"],
        "iterations of a loop": _NODE["properties"]["max_iterations"]["maximum"],
        "bytes of a literal or an inline value": limits.max_value_bytes,
        "objects and lists in each other": bodies.MAX_DEPTH,
        "characters of an expression": expressions.MAX_CHARACTERS,
        "comprehensions in an expression": 1,
        "bytes of an expression's result": expressions.MAX_RESULT_BYTES,
        "stored workflows called, those that they call included": calls.MOST_CALLED,
        "bytes of these together": calls.MOST_BYTES,
        "calls in each other": calls.MOST_DEPTH,
    }
    settings = [
        _setting(name) for name in ("max_document_bytes", "max_nodes", "max_depth", "max_items", "max_instances")
    ]
    return _table(("what", "at most", "setting"), [*settings, *((what, f"{n:,}", "") for what, n in said.items())])


def _setting(name: str) -> Row:
    field = ControlSettings.model_fields[name]
    return str(field.description).rstrip("."), f"{field.default:,}", f"`SPINDLE_{name.upper()}`"


def _functions() -> str:
    rows = [
        ("operators", "`+ - * / % == != < <= > >= && || ! ?: in [ ] .`"),
        ("functions", " ".join(f"`{name}`" for name in sorted(expressions.FUNCTIONS, key=str.lower))),
        ("comprehensions", " ".join(f"`{name}`" for name in sorted(cel_text.MACROS - {"existsOne"}))),
        ("macros", "`has`"),
    ]
    return _table(("", ""), rows)


def _codes() -> str:
    rows = [
        (about if at == 0 else "", f"`{code}`" + (" (warning)" if known.warning else ""), known.meaning)
        for about, codes in CODES.items()
        for at, (code, known) in enumerate(codes.items())
    ]
    return _table(("about", "code", "what it says"), rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "document": _document,
    "input": lambda: _part("InputSpec"),
    "node": _node,
    "flow": _common,
    "timeouts": lambda: _part("Timeouts"),
    "retry": lambda: _part("RetryPolicy"),
    "body": lambda: _part("Body"),
    **{name: (lambda name=name: _flow(name)) for name in FLOWS},  # type: ignore[misc]
    "limits": _limits,
    "functions": _functions,
    "codes": _codes,
}
