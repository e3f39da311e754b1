"""The type of a value as it stands in a document, references and all, as far as it is known before a run.

    schema_of({"tags": ["a", {"$from": "say.text"}]}, shape_at).schema
    {"type": "object", "required": ["tags"], "properties": {"tags": {"type": "array", "items": {"anyOf": …}, …}}, …}

A reference gives the very schema of what it refers to; literals become constants; what is too deep, too large or
unknown becomes `{}`. Such types are made of other nodes' types, so an unbounded one would double from node to node.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from spindle_control.compiler.references import NothingThere, Reference, follow, marker_of, read_reference
from spindle_control.compiler.report import below
from spindle_control.compiler.schemas import subschemas, type_name
from spindle_control.compiler.types import describe
from spindle_control.compiler.work import FOLLOWED, Work

MAX_PARTS = 256
"""Schemas in the type of a value that is put together; a reference alone may give a larger one."""
MAX_DEPTH = 12
MAX_BRANCHES = 8
_TOO_LARGE = (MAX_PARTS + 1, MAX_DEPTH + 1)
_MAX_VALUES = 16
_REFERENCE_COST = 2
_MAX_TEXT = 200
UNKNOWN: dict[str, Any] = {}
_NAMES = re.compile(r"\s*[A-Za-z_]\w*(\.[A-Za-z_]\w*)+\s*", re.ASCII)


class Shape(NamedTuple):
    """What a reference gives: a value of some type, or a kind of handle; `source` names it in messages."""

    source: str
    schema: Any = UNKNOWN
    handle: str | None = None

    def __str__(self) -> str:
        return f"a handle ({self.handle})" if self.handle else describe(self.schema)


_ANYTHING = Shape("a value")


class Budget:
    """How many values, and schemas in types, may yet be looked at, a few µs each; one may serve several calls, and
    those of a whole document draw on its `work`.

    A type is measured and written out once. It is kept, so that no other object gets its identity.
    """

    def __init__(self, left: int = 2000, work: Work | None = None) -> None:
        self._left, self._work = left, work
        self._sizes: dict[int, tuple[Any, tuple[int, int]]] = {}
        self._texts: dict[int, tuple[Any, str]] = {}

    @property
    def left(self) -> int:
        """What has not been spent."""
        return self._left if self._work is None else min(self._left, self._work.followed // FOLLOWED)

    def spend(self, count: int = 1) -> bool:
        """Whether there was as much left."""
        self._left -= count
        if self._work is not None:
            return self._work.follow(count * FOLLOWED) and self._left >= 0
        return self._left >= 0

    def size(self, schema: Any) -> tuple[int, int]:
        """Return how many schemas it holds, and how deep; more than the bounds once the budget is spent."""
        if id(schema) not in self._sizes:
            size = size_of(schema) if self.left > 0 else _TOO_LARGE
            self.spend(size[0])
            self._sizes[id(schema)] = (schema, size)
        return self._sizes[id(schema)][1]

    def text(self, schema: Any) -> str | None:
        """Return it as JSON, which is the same for the same type; None if that would cost too much."""
        if id(schema) not in self._texts:
            if not self.spend(self.size(schema)[0] + 1):
                return None
            self._texts[id(schema)] = (schema, json.dumps(schema, sort_keys=True))
        return self._texts[id(schema)][1]


ShapeAt = Callable[[Reference], Shape | None]


def schema_of(value: Any, shape_at: ShapeAt, pointer: str = "", budget: Budget | None = None) -> Shape:
    """Return the type of a value, `{}` where nothing is known.

    `shape_at` says what a reference gives, None if that is not known: `Scope.shape` does, and what it then notes of
    a reference is what it noted when the same reference was checked, if `pointer` is that of the value. A handle
    anywhere in the value is told as the shape's `handle`.
    """
    budget = budget or Budget()
    if type(value) is dict and len(value) == 1 and "$from" in value:
        if not budget.spend(_REFERENCE_COST):
            return _ANYTHING
        reference = read_reference(value["$from"], f"{pointer}/$from")
        return _ANYTHING if reference is None else shape_at(reference) or _ANYTHING
    return _Reading(shape_at, budget).shape(value, pointer, 0)


class _Reading:
    """One value being read, with a bound on what is made of it."""

    def __init__(self, shape_at: ShapeAt, budget: Budget) -> None:
        self._shape_at, self._budget = shape_at, budget
        self._left = MAX_PARTS

    def shape(self, value: Any, pointer: str, depth: int) -> Shape:
        if not self._may_read(depth):
            return _ANYTHING
        if type(value) is dict:
            if len(value) == 1 and "$from" in value:
                return self._reference(read_reference(value["$from"], f"{pointer}/$from"))
            marker = marker_of(value)
            if marker is None:
                return self._object(value, pointer, depth)
            return self._marked(marker, value[marker], f"{pointer}/{marker}", depth)
        if type(value) is list:
            return self._list(value, pointer, depth)
        return Shape("a literal", _constant(value))

    def _may_read(self, depth: int) -> bool:
        return self._budget.spend() and depth <= MAX_DEPTH

    def _marked(self, marker: str, inner: Any, pointer: str, depth: int) -> Shape:
        if marker == "$from":
            return self._reference(read_reference(inner, pointer))
        if marker == "$expr":
            return self._expression(inner, pointer)
        if marker == "$secret":
            return Shape("$secret", {"type": "string"})
        if marker == "$literal":
            return Shape("a literal", self._literal(inner, depth))
        if not isinstance(inner, list):
            return Shape(marker)
        shapes = [self.shape(one, f"{pointer}/{at}", depth + 1) for at, one in enumerate(inner)]
        if marker == "$first":
            return shapes[0] if len(shapes) == 1 else self._with(marker, self._any_of(shapes), shapes)
        return self._with(marker, {"type": "array", "items": self._any_of(shapes), "maxItems": len(shapes)}, shapes)

    def _reference(self, reference: Reference | None) -> Shape:
        if reference is None or not self._budget.spend(_REFERENCE_COST):
            return _ANYTHING
        shape = self._shape_at(reference)
        return _ANYTHING if shape is None else shape

    def _expression(self, text: Any, pointer: str) -> Shape:
        """An expression that is a reference and nothing more gives what that gives."""
        alone = isinstance(text, str) and _NAMES.fullmatch(text)
        whole = read_reference(text.strip(), pointer) if alone else None
        root = self._reference(None if whole is None else whole._replace(deeper=()))
        if whole is None or root.handle:
            return Shape("$expr")
        try:
            return Shape(whole.text, follow(root.schema, whole.deeper))
        except NothingThere:
            return Shape("$expr")

    def _list(self, items: list[Any], pointer: str, depth: int) -> Shape:
        if _are_plain(items):
            return Shape("a list", _plain_list(items, self._budget))
        if len(items) > self._budget.left:
            return Shape("a list", _list_of({}, len(items)))
        shapes = [self.shape(item, f"{pointer}/{at}", depth + 1) for at, item in enumerate(items)]
        return self._with("a list", _list_of(self._any_of(shapes), len(items)), shapes)

    def _object(self, value: dict[str, Any], pointer: str, depth: int) -> Shape:
        self._budget.spend()
        shapes = {name: self.shape(item, below(pointer, name), depth + 1) for name, item in value.items()}
        properties = {name: self._bounded(shape.schema) for name, shape in shapes.items()}
        return self._with("an object", _object_of(properties), shapes.values())

    def _literal(self, value: Any, depth: int) -> Any:
        if not self._may_read(depth):
            return {}
        if isinstance(value, list):
            if _are_plain(value):
                return _plain_list(value, self._budget)
            if len(value) > self._budget.left:
                return _list_of({}, len(value))
            return _list_of(union([self._literal(item, depth + 1) for item in value], self._budget), len(value))
        if isinstance(value, dict):
            return _object_of({name: self._literal(item, depth + 1) for name, item in value.items()})
        return _constant(value)

    @staticmethod
    def _with(source: str, schema: Any, parts: Iterable[Shape]) -> Shape:
        """Name the first handle among the parts, if there is one."""
        for part in parts:
            if part.handle:
                return part
        return Shape(source, schema)

    def _any_of(self, shapes: Sequence[Shape]) -> Any:
        # Most lists hold what one port gives over and over: each schema is looked at once.
        distinct = {id(shape.schema): shape.schema for shape in shapes}
        return union([self._bounded(schema) for schema in distinct.values()], self._budget)

    def _bounded(self, schema: Any) -> Any:
        """Take a schema into another one, unless there is too much of it."""
        if _is_constant(schema):
            return schema
        count, depth = self._budget.size(schema)
        if count > self._left or depth > MAX_DEPTH:
            return {}
        self._left -= count
        return schema


def union(schemas: Sequence[Any], budget: Budget) -> Any:
    """Return the type of what is any of these; constants are put together."""
    if len(schemas) == 1:
        return schemas[0] if isinstance(schemas[0], dict) else {}
    constants = [schema for schema in schemas if _is_constant(schema)]
    branches: dict[str, Any] = {}
    for schema in [_one_of(constants), *schemas] if constants else schemas:
        if not isinstance(schema, dict) or not schema:
            return {}
        if len(constants) < 2 or not _is_constant(schema):
            text = budget.text(schema)
            if text is None:
                return {}
            branches.setdefault(text, schema)
        if len(branches) > MAX_BRANCHES:
            return {}
    found = list(branches.values())
    return found[0] if len(found) == 1 else {"anyOf": found} if found else {}


def _is_constant(schema: Any) -> bool:
    return isinstance(schema, dict) and schema.keys() == {"type", "const"}


def _one_of(constants: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the type of some constants: their values where they are few, else what they have in common."""
    if len(constants) == 1:
        return constants[0]
    values = {(schema["type"], schema["const"]): schema["const"] for schema in constants}
    kinds = sorted({schema["type"] for schema in constants})
    return {"type": kinds} | ({"enum": list(values.values())} if len(values) <= _MAX_VALUES else {})


def _constant(value: Any) -> dict[str, Any]:
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        return {"type": "string", "minLength": len(value), "maxLength": len(value)}
    return {"type": type_name(value), "const": value}


def _are_plain(items: list[Any]) -> bool:
    kinds = set(map(type, items))
    return dict not in kinds and list not in kinds


def _plain_list(items: list[Any], budget: Budget) -> dict[str, Any]:
    """Return the type of a list of plain values, each of them looked at once however often it stands there."""
    distinct = {(type(item), item): item for item in items}
    if len(distinct) <= _MAX_VALUES:
        return _list_of(union([_constant(item) for item in distinct.values()], budget), len(items))
    return _list_of({"type": sorted({type_name(item) for item in items})}, len(items))


def _list_of(items: Any, size: int) -> dict[str, Any]:
    sizes = {"minItems": size, "maxItems": size}
    return {"type": "array", **sizes} | ({"items": items} if size else {})


def _object_of(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(properties),
        "additionalProperties": False,
    }


def size_of(schema: Any) -> tuple[int, int]:
    """Count the schemas in a schema, and how deep they stand in each other; no further than the bounds."""
    count, deepest, waiting = 0, 0, [(schema, 0)]
    while waiting and count <= MAX_PARTS and deepest <= MAX_DEPTH:
        part, depth = waiting.pop()
        count, deepest = count + 1, max(deepest, depth)
        if isinstance(part, dict):
            waiting.extend((inner, depth + 1) for _, inner in subschemas(part))
    return count, deepest


def widened(schema: Any, depth: int = 0, budget: Budget | None = None) -> Any:
    """Return the type of what is like this: any text for a constant one, any image for a PNG, lists of any length."""
    if not isinstance(schema, dict) or depth > MAX_DEPTH or "allOf" in schema or "$ref" in schema:
        return {}
    budget = budget or Budget()
    branches = schema.get("anyOf") or schema.get("oneOf")
    if branches:
        return union([widened(branch, depth + 1, budget) for branch in branches], budget)
    if "artifact" in schema:
        return {"artifact": schema["artifact"].partition("/")[0] + "/*"}
    kinds = sorted(_kinds(schema))
    if not kinds:
        return {}
    wide: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds}
    if "items" in schema and "prefixItems" not in schema:
        wide["items"] = widened(schema["items"], depth + 1, budget)
    if "properties" in schema:
        wide["properties"] = {name: widened(part, depth + 1, budget) for name, part in schema["properties"].items()}
    return wide


def _kinds(schema: dict[str, Any]) -> set[str]:
    """Return the types that a schema names; a whole number is a number like any other, and null alone says nothing."""
    named = schema.get("type", [type_name(value) for value in schema.get("enum", ())])
    kinds = {named} if isinstance(named, str) else set(named)
    if kinds == {"null"}:
        return set()
    return kinds - {"integer"} | {"number"} if "integer" in kinds else kinds
