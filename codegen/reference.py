"""The reference of the built-in nodes: a section with a table of ports for each, put into docs/nodes.md.

manifest of a node type -> heading, what it does, where it runs -> one row a port: type in words, what it is for
"""

import json
import re
from collections.abc import Iterable
from typing import Any

from spindle_common.contracts import NodeType, Port

BEGIN = "<!-- nodes: written by `./dev gen` from the node types -->"
END = "<!-- end of nodes -->"
_LARGE = {2**53 - 1: "2^53 - 1", 2**32 - 1: "2^32 - 1"}
_PLURAL = {"string": "strings", "integer": "integers", "number": "numbers", "boolean": "booleans", "object": "objects"}
_COLOUR = "^#[0-9a-fA-F]{6}$"
_UNSET: tuple[Any, ...] = (None, "", [], {})


def with_reference(page: str, nodes: Iterable[NodeType]) -> str:
    """Return the page with the sections of these nodes between the marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n" + "\n".join(map(section, nodes)) + f"\n{END}{after}"


def section(node: NodeType) -> str:
    """Return what a page says of a node type."""
    first, *more = node.description.split("\n\n")
    about = [f"queue `{node.queue}`" if node.queue else "light"]
    about += [f"timeout {node.timeout}"] if node.timeout else []
    about += [] if node.cacheable else ["never cached"]
    lines = [f"### `{node.type}`", "", f"{node.title}. {_line(first)} ({', '.join(about)})", ""]
    for paragraph in more:
        lines += [_line(paragraph), ""]
    lines += ["| port | takes or gives | |", "|---|---|---|"]
    lines += [_row(f"`{name}`", port, note=_note(port)) for name, port in node.inputs.items()]
    lines += [_row(f"→ `{name}`", port, note="") for name, port in node.outputs.items()]
    return "\n".join(lines) + "\n"


def _row(name: str, port: Port, note: str) -> str:
    text = f"{port.description} {note}".strip()
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in (name, _kind(port), text)) + " |"


def _line(text: str) -> str:
    return " ".join(text.split())


def _note(port: Port) -> str:
    if port.required:
        return "**Required.**"
    default = (port.schema_ or {}).get("default")
    return "" if default in _UNSET else f"Default {_shown(default)}."


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return f"`{text}`" if isinstance(value, dict | list) else text


def _kind(port: Port) -> str:
    schema = port.schema_ or {}
    if port.kind == "handle":
        return f"handle: {port.handle}"
    if schema.get("x-spindle") == "model":
        return "model"
    if port.kind == "artifact":
        return f"list of {port.media_type}" if schema.get("type") == "array" else f"{port.media_type}"
    return words(schema)


def words(schema: Any, *, many: bool = False) -> str:
    """Say what a schema describes; that it may be null says only that a port may be left out."""
    if not isinstance(schema, dict):
        return "values" if many else "any"
    if "x-type-of" in schema:
        return _followed(schema["x-type-of"].split("/"), many=many)
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    branches = [branch for branch in schema.get("anyOf", ()) if branch.get("type") != "null"]
    if branches:
        return _either([words(branch, many=many) for branch in branches])
    kind = schema.get("type")
    if kind == "array":
        return ("lists of " if many else "list of ") + words(schema.get("items"), many=True)
    rest = schema.get("additionalProperties")
    if kind == "object" and isinstance(rest, dict):
        return ("objects of " if many else "object of ") + words(rest, many=True)
    if kind is None:
        return "values" if many else "any"
    return (_PLURAL[kind] if many else kind) + _bounds(schema)


def _either(found: list[str]) -> str:
    distinct = list(dict.fromkeys(found))
    if set(distinct) == {"strings", "integers", "numbers", "booleans"}:
        return "scalars"
    return " or ".join(distinct)


def _followed(path: list[str], *, many: bool) -> str:
    name, *steps = path
    if not steps:
        return f"values like `{name}`" if many else f"as `{name}`"
    if steps[0] == "{}":
        return f"object{'s' if many else ''} with an item of each of `{name}`"
    inner = "".join("items of " for _ in steps[1:])
    return f"{'items' if many else 'an item'} of {inner}`{name}`"


def _bounds(schema: dict[str, Any]) -> str:
    said = []
    low, over, high = schema.get("minimum"), schema.get("exclusiveMinimum"), schema.get("maximum")
    if over is not None:
        said.append(f"over {_number(over)}" + ("" if high is None else f", to {_number(high)}"))
    elif low is not None and high is not None:
        said.append(f"{_number(low)} to {_number(high)}")
    elif low is not None:
        said.append(f"from {_number(low)}")
    elif high is not None:
        said.append(f"to {_number(high)}")
    if "multipleOf" in schema:
        said.append(f"multiple of {_number(schema['multipleOf'])}")
    if "maxLength" in schema:
        said.append(f"at most {schema['maxLength']:,} characters")
    if schema.get("pattern") == _COLOUR:
        said.append("#rrggbb")
    return f" ({', '.join(said)})" if said else ""


def _number(value: float) -> str:
    text = _LARGE.get(int(value)) if value == int(value) else None
    return text or re.sub(r"\.0$", "", str(value))
