"""The shape of a document, before its meaning: is it JSON of bounded size, and does it fit workflow.schema.json?

A document that fits is passed in one quick validation. One that doesn't is looked at piece by piece, so that a
mistake in one node hides nothing in the others: what is wrong is noted, and left out of what is checked further.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import jsonschema_rs

from spindle_common.problems import pointer as to_pointer
from spindle_control.compiler.limits import Limits
from spindle_control.compiler.report import Report, shown
from spindle_control.compiler.schemas import explain, meant
from spindle_control.compiler.work import BYTES, PARTS

_OURS = ("inputs", "item", "index", "carry")
_OF_CEL = "as break const continue else false for function if import in let loop null package namespace return true var"
_GIVEN = frozenset(["item", "index"])  # what a map or a loop may give its body
RESERVED = frozenset([*_OURS, *_OF_CEL.split(), "void", "while"])
_SCHEMA: dict[str, Any] = json.loads(
    resources.files("spindle_common.contracts").joinpath("workflow.schema.json").read_text()
)
SPEC_ARTIFACT = re.compile(_SCHEMA["$defs"]["InputSpec"]["properties"]["artifact"]["pattern"])
_ID = re.compile(r"[a-z][a-z0-9_]{0,63}")
_LONG_NUMBER = re.compile(r"[0-9]{19}")
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1
_WHOLE = jsonschema_rs.Draft202012Validator(_SCHEMA)
_NODE, _SPEC, _BODY = (
    jsonschema_rs.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": _SCHEMA["$defs"]})
    for name in ("WorkflowNode", "InputSpec", "Body")
)
_NODE_KEYS = tuple(_SCHEMA["$defs"]["WorkflowNode"]["properties"])
_MOST_AFTER: int = _SCHEMA["$defs"]["WorkflowNode"]["properties"]["after"]["maxItems"]
_LONGEST_ID = 256  # what has a longer one is not looked into: it would stand in every pointer below
_MOST_EXPLAINED = 65_536
_STAND_IN: dict[str, Any] = {"nodes": {"a": {"type": "a.b@1"}}, "inputs": {}, "outputs": {}}
_CODES = {
    "required": "missing-key",
    "type": "wrong-type",
    "maxLength": "too-large",
    "maxItems": "too-large",
    "maxProperties": "too-large",
}
_ORDER_WORDS = frozenset(["depends_on", "dependsOn", "depends", "needs", "requires", "wait_for"])
_ORDER_HINT = 'a reference is enough to wait for a node; to wait without one, write "after": ["node"]'
_DURATION_HINT = 'write a number with its unit: "500ms", "60s", "5m", "24h"'


@dataclass
class Draft:
    """What could be read of a document, or of a body in it, which stands at `base`.

    Nodes and inputs by id, their broken parts left out; `bodies` are those of its nodes, by id.
    """

    document: dict[str, Any]
    nodes: dict[str, dict[str, Any]]
    inputs: dict[str, dict[str, Any] | None]
    outputs: dict[str, Any]
    base: str = ""
    bodies: dict[str, "Draft"] = field(default_factory=dict)


def read(document: object, limits: Limits, report: Report) -> Draft | None:
    """Read a document, noting what is wrong with its shape; None if nothing further can be checked."""
    if not isinstance(document, dict):
        report.add("", "wrong-type", "a workflow is an object", 'write {"schema": "spindle.workflow/v1", "nodes": {…}}')
        return None
    if not healthy(document, limits, report):
        return None
    if not _bounded(document, limits, report):
        return None
    whole = _WHOLE.is_valid(document)
    draft = _draft(document, "") if whole else _read_pieces(document, _WHOLE, "", report)
    _check_reserved(draft, report)
    return draft


def _bounded(document: dict[str, Any], limits: Limits, report: Report) -> bool:
    """Whether there are no more nodes, and no bodies deeper in each other, than is allowed."""
    count, depth = 0, 0
    level: list[tuple[_Way, dict[str, Any]]] = [((), document)]
    while level:
        if depth > limits.max_bodies:
            detail = f"bodies are nested more than {limits.max_bodies} deep"
            report.add(
                _pointer(level[0][0]), "too-deep", detail, "move some of it into a workflow of its own: flow.call"
            )
            return False
        inner: list[tuple[_Way, dict[str, Any]]] = []
        for way, part in level:
            nodes = part.get("nodes")
            for id_, node in nodes.items() if isinstance(nodes, dict) else ():
                count += 1
                if isinstance(node, dict) and isinstance(node.get("body"), dict):
                    inner.append(((((way, "nodes"), id_), "body"), node["body"]))
        level, depth = inner, depth + 1
    if count > limits.max_nodes:
        report.add("/nodes", "too-many-nodes", f"it has {count} nodes; {limits.max_nodes} are allowed")
    else:
        report.work.bring(count)
    return count <= limits.max_nodes


def _draft(document: dict[str, Any], base: str) -> Draft:
    """Read what fits the schema."""
    nodes = document["nodes"]
    bodies = {id_: _draft(node["body"], f"{base}/nodes/{id_}/body") for id_, node in nodes.items() if "body" in node}
    return Draft(document, nodes, document.get("inputs", {}), document.get("outputs", {}), base, bodies)


def healthy(value: dict[str, Any], limits: Limits, report: Report, prefix: str = "") -> bool:
    """Whether a value is JSON: finite numbers of 64 bits, text that can be encoded, of bounded depth and size."""
    before = report.count
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        size, suspicious = len(text.encode()), _LONG_NUMBER.search(text) is not None
        parts = text.count("[") + text.count("{")
        report.spend(min(size, limits.max_bytes) // BYTES + parts // PARTS, "size")
    except (ValueError, TypeError, RecursionError):
        size, suspicious = 0, True
    try:
        if _depth(value, limits.max_depth) > limits.max_depth:
            where = prefix + _deepest(value, limits.max_depth)
            report.add(where, "too-deep", f"it is nested more than {limits.max_depth} deep")
            return False
    except TypeError:
        suspicious = True
    if size > limits.max_bytes:
        report.add(prefix, "too-large", f"it has {size} bytes; {limits.max_bytes} are allowed")
    elif suspicious:
        for pointer, code, detail in _unhealthy(value, report):
            report.add(prefix + pointer, code, detail)
    return report.count == before


def _depth(value: Any, most: int) -> int:
    """Count the levels of nesting, at most one more than `most`, without recursion. Raises TypeError for odd keys."""
    depth, level = 0, [value]
    while level and depth <= most:
        depth += 1
        items: list[Any] = []
        for part in level:
            if type(part) is dict:
                "".join(part)  # raises for a key that is not text, quicker than asking each
                items.extend(part.values())
            else:
                items.extend(part)
        level = [item for item in items if type(item) is dict or type(item) is list]
    return depth


def _deepest(value: Any, most: int) -> str:
    waiting: list[tuple[Any, str, int]] = [(value, "", 1)]
    while waiting:
        part, pointer, depth = waiting.pop()
        if depth > most:
            return pointer
        items = part.items() if type(part) is dict else enumerate(part)
        waiting.extend((v, pointer + to_pointer(k), depth + 1) for k, v in items if type(v) in (dict, list))
    return ""


def _unhealthy(document: dict[str, Any], report: Report) -> Iterator[tuple[str, str, str]]:
    waiting: list[tuple[Any, _Way]] = [(document, ())]
    while waiting:
        value, way = waiting.pop()
        if isinstance(value, dict | list):
            report.spend(1 + len(value) // 2, "values")
        if isinstance(value, dict):
            for key, item in value.items():
                if not isinstance(key, str) or not _encodes(key):
                    yield _pointer(way), "bad-text", "a key is not text that can be encoded"
                else:
                    waiting.append((item, (way, key)))
        elif isinstance(value, list):
            waiting.extend((item, (way, at)) for at, item in enumerate(value))
        elif (fault := _fault(value)) is not None:
            yield _pointer(way), *fault


_Way = tuple[Any, ...]
"""How a value is reached: the way to what holds it, and its key there. Made into a pointer only where one is told:
keys may be long, and thousands of values below them.
"""


def _pointer(way: _Way) -> str:
    keys: list[str | int] = []
    while way:
        way, key = way
        keys.append(key)
    return to_pointer(*reversed(keys))


def _fault(value: Any) -> tuple[str, str] | None:
    if isinstance(value, str):
        return None if _encodes(value) else ("bad-text", "the text holds half of a surrogate pair")
    if isinstance(value, float):
        finite = value - value == 0
        return None if finite else ("bad-number", "JSON has no NaN and no infinities")
    if isinstance(value, int):
        return None if _SMALLEST <= value <= _LARGEST else ("bad-number", "the number does not fit into 64 bits")
    return None if value is None else ("wrong-type", f"{type(value).__name__} is no JSON")


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_pieces(
    document: dict[str, Any], schema: jsonschema_rs.Draft202012Validator, base: str, report: Report
) -> Draft:
    top = _TOP if schema is _WHOLE else _IN_BODY
    shell = {key: _STAND_IN[key] if _is_filled(key, value) else value for key, value in document.items() if key in top}
    for error in schema.iter_errors(shell):
        _note(error, shell, base, report)
    for key in document.keys() - top:
        hint = report.meant(key, top)
        report.add(
            base + to_pointer(key),
            "unknown-key",
            f"a {'body' if base else 'workflow'} has no `{shown(key)[1:-1]}`",
            hint,
        )
    parts = {key: value if isinstance(value := document.get(key), dict) else {} for key in _STAND_IN}
    for key in "inputs", "outputs":
        if len(parts[key]) > 256:
            report.add(f"{base}/{key}", "too-large", f"it has {len(parts[key])} entries; 256 are allowed")
            parts[key] = {}
    draft = Draft(document, {}, {}, parts["outputs"], base)
    for id_, node in parts["nodes"].items():
        draft.nodes[id_] = _read_node(id_, node, draft, report)
    for name, spec in parts["inputs"].items():
        draft.inputs[name] = _read_spec(name, spec, base, report)
    for name in draft.outputs:
        _check_id(name, f"{base}/outputs{to_pointer(name)}", report)
    return draft


_TOP = frozenset(_SCHEMA["properties"])
_IN_BODY = frozenset(_SCHEMA["$defs"]["Body"]["properties"])


def _is_filled(key: str, value: Any) -> bool:
    return key in _STAND_IN and isinstance(value, dict) and (bool(value) or key != "nodes")


def _read_node(id_: str, node: Any, level: Draft, report: Report) -> dict[str, Any]:
    """Return the parts of a node that fit the schema; its body goes to the bodies of its level."""
    pointer = f"{level.base}/nodes{to_pointer(id_)}"
    _check_id(id_, pointer, report)
    if len(id_) > _LONGEST_ID:
        return {}
    if not isinstance(node, dict):
        report.add(pointer, "wrong-type", "a node is an object", 'write {"type": "family.verb@1", "inputs": {…}}')
        return {}
    broken = set(node.keys() - _NODE_KEYS)
    for key in sorted(broken):
        hint = _ORDER_HINT if key in _ORDER_WORDS else report.meant(key, _NODE_KEYS)
        report.add(pointer + to_pointer(key), "unknown-key", f"a node has no `{shown(key)[1:-1]}`", hint)
    after = node.get("after")
    if isinstance(after, list) and len(after) > _MOST_AFTER:
        report.add(f"{pointer}/after", "too-large", f"it has {len(after)} items; {_MOST_AFTER} are the most")
        broken.add("after")
    if isinstance(node.get("body"), dict):
        level.bodies[id_] = _read_pieces(node["body"], _BODY, f"{pointer}/body", report)
    known = {key: value for key, value in node.items() if key != "body" and key not in broken}
    if "body" in node and id_ not in level.bodies:
        report.add(f"{pointer}/body", "wrong-type", "a body is an object", 'write {"nodes": {…}, "outputs": {…}}')
    for error in _errors(_NODE, known):
        _note(error, known, pointer, report)
        broken.update(str(part) for part in error.instance_path[:1])
    kept = {key: value for key, value in known.items() if key not in broken}
    return kept | ({"body": node["body"]} if id_ in level.bodies else {})


def _read_spec(name: str, spec: Any, base: str, report: Report) -> dict[str, Any] | None:
    pointer = f"{base}/inputs{to_pointer(name)}"
    _check_id(name, pointer, report)
    if len(name) > _LONGEST_ID:
        return None
    errors = _errors(_SPEC, spec)
    for error in errors:
        _note(error, spec, pointer, report)
    return None if errors else spec


def _errors(validator: jsonschema_rs.Draft202012Validator, value: Any) -> list[jsonschema_rs.ValidationError]:
    """Every error of a small piece, the first of a large one: telling all of them takes time by its size."""
    if validator.is_valid(value):
        return []
    if len(json.dumps(value)) <= _MOST_EXPLAINED:
        return list(validator.iter_errors(value))
    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        return [error]
    return []


def _note(error: jsonschema_rs.ValidationError, value: Any, pointer: str, report: Report) -> None:
    error = meant(error)
    path = error.instance_path
    where = pointer + to_pointer(*path)
    detail, hint = explain(error, value)
    code = _CODES.get(error.kind.name, "bad-value")
    field = next((part for part in reversed(path) if isinstance(part, str)), "")
    if "timeout" in path or field in ("backoff", "deadline"):
        code, hint = "bad-duration", _DURATION_HINT
    elif field == "type" and error.kind.name == "pattern":
        code, hint = "unknown-type", 'a type is written "family.verb@1"'
    elif field == "workflow_ref" and error.kind.name == "pattern":
        hint = 'write the name of a stored workflow, and perhaps its version: "poster@3"'
    elif field in ("when", "until"):
        code = "bad-expression"
    elif error.kind.name == "additionalProperties":
        code = "unknown-key"
    report.add(where, code, detail, hint)


def _check_id(id_: str, pointer: str, report: Report) -> None:
    if not _ID.fullmatch(id_):
        hint = "an id is a small letter, then at most 63 small letters, digits and `_`"
        report.add(pointer, "bad-id", f"{shown(id_)} cannot be an id", hint)


def _check_reserved(draft: Draft, report: Report) -> None:
    own = _GIVEN if draft.base else frozenset()
    for part, ids in (("nodes", draft.nodes), ("inputs", draft.inputs)):
        for id_ in sorted((RESERVED - own if part == "inputs" else RESERVED) & ids.keys()):
            report.add(
                f"{draft.base}/{part}/{id_}", "reserved-id", f"`{id_}` has a meaning of its own", "choose another id"
            )
    for body in draft.bodies.values():
        _check_reserved(body, report)
