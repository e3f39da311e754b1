"""JSON Schemas of ports and inputs: made safe, compiled, and their errors told as mistakes.

A schema here may hold `{"artifact": "image/*"}` where an artifact is meant; for validating, that becomes the schema
of the artifact object. Schemas that users send are held to a size, may refer only to their own `$defs` (which are put
in their place, within a budget), and use regular expressions that run in linear time: the validator is jsonschema-rs
with its bounded engine, for explaining too, since the reference implementation would run any pattern with
backtracking and takes 255 ms for what this one does in 0.6 ms.
"""

import json
import re
from collections.abc import Callable, Iterator
from copy import copy
from functools import cached_property, lru_cache
from typing import Any

import jsonschema_rs

Schema = dict[str, Any] | bool
MAX_SCHEMA_BYTES = 16_384
MAX_SCHEMA_PARTS = 500
_MAX_PAIRS = 2_000_000
_DETAILED_WORK = 20_000
_DETAILED_BRANCHES = 500
_PER_MICROSECOND, _BRANCH = 80, 20
_ONE = ("items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames", "unevaluatedItems")
_LIST = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAP = ("properties", "patternProperties", "dependentSchemas", "$defs")
_HOLDERS = frozenset([*_ONE, *_LIST, *_MAP])
_FORBIDDEN = ("$dynamicRef", "$recursiveRef", "$id", "$anchor", "$dynamicAnchor", "$vocabulary", "definitions")
_PATTERNS = jsonschema_rs.RegexOptions(size_limit=1 << 20, dfa_size_limit=1 << 20)
_META = jsonschema_rs.Draft202012Validator({"$ref": "https://json-schema.org/draft/2020-12/schema"})
_DIGEST = "^sha256:[0-9a-f]{64}$"


def _free(_: int) -> None:
    """Take no account of what something costs."""


class UnsafeSchemaError(ValueError):
    """A user's schema asks for what is not allowed; `pointer` says where in it."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


def subschemas(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what stands in a schema where a schema is meant, each with its JSON Pointer."""
    for key, held in schema.items():
        if key not in _HOLDERS:
            continue
        if key in _ONE:
            yield f"/{key}", held
        elif key in _LIST and isinstance(held, list):
            yield from ((f"/{key}/{at}", part) for at, part in enumerate(held))
        elif key in _MAP and isinstance(held, dict):
            yield from ((f"/{key}/{_escape(name)}", part) for name, part in held.items())


def replace(schema: Any, change: Callable[[dict[str, Any]], Any]) -> Any:
    """Rebuild a schema from the inside out, each part of it changed by `change`."""
    if not isinstance(schema, dict):
        return schema
    built = dict(schema)
    for key, held in schema.items():
        if key not in _HOLDERS:
            continue
        if key in _ONE:
            built[key] = replace(held, change)
        elif key in _LIST and isinstance(held, list):
            built[key] = [replace(part, change) for part in held]
        elif key in _MAP and isinstance(held, dict):
            built[key] = {name: replace(part, change) for name, part in held.items()}
    return change(built)


def artifact_object(media: str) -> dict[str, Any]:
    """Return the schema of an artifact of this media type or range."""
    pattern = "^" + re.escape(media).replace(r"\*", "[^/]+").replace(r"\-", "-") + "$"
    properties = {
        "digest": {"type": "string", "pattern": _DIGEST},
        "media_type": {"type": "string", "maxLength": 127, "pattern": pattern},
        "size": {"type": "integer", "minimum": 0},
    }
    return {"type": "object", "required": list(properties), "properties": properties, "additionalProperties": False}


def expand_artifacts(schema: Any) -> Any:
    """Put the schema of the artifact object wherever `{"artifact": media}` stands."""
    return replace(schema, lambda part: artifact_object(part["artifact"]) if "artifact" in part else part)


def holds_artifact(schema: Any) -> bool:
    """Whether an artifact is meant anywhere in the schema."""
    if not isinstance(schema, dict):
        return False
    return "artifact" in schema or any(holds_artifact(part) for _, part in subschemas(schema))


def made_safe(schema: dict[str, Any], pay: Callable[[int], None] = _free) -> dict[str, Any]:
    """Return a user's schema with its own `$ref`s put in their place, held to the limits; `pay` is told how many parts
    it then has, however that ends. Raises UnsafeSchemaError.
    """
    if len(json.dumps(schema)) > MAX_SCHEMA_BYTES:
        raise UnsafeSchemaError(f"the schema is larger than {MAX_SCHEMA_BYTES} bytes")
    shared = schema.get("$defs", {})
    left = [MAX_SCHEMA_PARTS]
    try:
        inlined = _inline(schema, shared if isinstance(shared, dict) else {}, "", (), left)
    finally:
        pay(MAX_SCHEMA_PARTS - max(left[0], 0))
    return {key: value for key, value in inlined.items() if key != "$defs"} if isinstance(inlined, dict) else {}


def _inline(schema: Any, shared: dict[str, Any], at: str, open_refs: tuple[str, ...], left: list[int]) -> Any:
    if not isinstance(schema, dict):
        return schema
    left[0] -= 1
    if left[0] < 0:
        raise UnsafeSchemaError(f"the schema has more than {MAX_SCHEMA_PARTS} parts", at)
    for key in _FORBIDDEN:
        if key in schema:
            raise UnsafeSchemaError(f"`{key}` is not taken here; write the schema out", f"{at}/{key}")
    if "$ref" in schema:
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        target = _target(schema["$ref"], shared, f"{at}/$ref", open_refs)
        inner = _inline(target, shared, at, (*open_refs, schema["$ref"]), left)
        return inner if not rest else {"allOf": [inner, _inline(rest, shared, at, open_refs, left)]}
    built = {key: copy(held) if key in _LIST or key in _MAP else held for key, held in schema.items()}
    for where, part in subschemas(schema):
        if not where.startswith("/$defs"):
            _put(built, where, _inline(part, shared, at + where, open_refs, left))
    return built


def _put(built: dict[str, Any], where: str, value: Any) -> None:
    _, key, *name = where.split("/", 2)
    if not name:
        built[key] = value
    elif isinstance(built[key], list):
        built[key][int(name[0])] = value
    else:
        built[key][name[0].replace("~1", "/").replace("~0", "~")] = value


def _target(ref: Any, shared: dict[str, Any], at: str, open_refs: tuple[str, ...]) -> Any:
    name = ref.removeprefix("#/$defs/") if isinstance(ref, str) else None
    if name is None or name == ref or name not in shared:
        raise UnsafeSchemaError("`$ref` may only name one of the schema's own `$defs`, as `#/$defs/name`", at)
    if ref in open_refs:
        raise UnsafeSchemaError("the schema refers to itself", at)
    return shared[name]


def _escape(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


class Validator:
    """A compiled schema, and what it would cost to check a value against it."""

    def __init__(self, schema: Any) -> None:
        self._fast = jsonschema_rs.Draft202012Validator(
            schema, pattern_options=_PATTERNS, offline=True, validate_formats=False
        )
        self._schema = schema

    @cached_property
    def _parts(self) -> int:
        return count_parts(self._schema)

    @cached_property
    def _branches(self) -> int:
        return count_branches(self._schema)

    def fits(self, value: Any) -> bool:
        """Whether a value fits; for one that is neither a list nor an object."""
        return bool(self._fast.is_valid(value))

    def errors(self, value: Any, pay: Callable[[int], None] = _free) -> list[jsonschema_rs.ValidationError]:
        """Return what is wrong with a value: everything, or the first thing where telling all would take long.

        `pay` is told what the next step takes, in microseconds, and may raise.

        Raises:
            ValueError: value and schema are too large for each other, or the value is no JSON.

        """
        count = count_values(value) if type(value) in (list, dict) else 1
        work = self._parts * count if count > 1 else 0
        if work > _MAX_PAIRS:
            raise ValueError("the value is too large to be checked against its schema")
        pay(work // _PER_MICROSECOND + count - 1)
        if self._fast.is_valid(value):
            return []
        detailed = work <= _DETAILED_WORK and self._branches * count <= _DETAILED_BRANCHES
        pay(_BRANCH * self._branches * (count if detailed else 1) + 3 * (count - 1))  # the error holds a copy of it
        if detailed:
            return list(self._fast.iter_errors(value))
        try:
            self._fast.validate(value)
        except jsonschema_rs.ValidationError as error:
            return [error]
        return []


@lru_cache(maxsize=4096)
def _compile_text(text: str) -> Validator:
    return Validator(json.loads(text))


def compiled(schema: Any) -> Validator:
    """Compile a schema that may hold artifacts; the same schema is compiled once. Raises ValueError."""
    return _compile_text(json.dumps(expand_artifacts(schema), sort_keys=True) if schema else json.dumps(schema))


def meta_errors(schema: Any) -> list[jsonschema_rs.ValidationError]:
    """Return what keeps a value from being a JSON Schema (draft 2020-12)."""
    return [] if _META.is_valid(schema) else list(_META.iter_errors(schema))


def count_parts(schema: Any) -> int:
    """Count the schemas in a schema."""
    return 1 + sum(count_parts(part) for _, part in subschemas(schema)) if isinstance(schema, dict) else 1


def count_branches(schema: Any) -> int:
    """Count the schemas in the unions of a schema: an error in a union tells what each of them says."""
    if not isinstance(schema, dict):
        return 0
    inside = sum(count_parts(part) for key in ("anyOf", "oneOf") for part in schema.get(key, ()))
    return inside or sum(count_branches(part) for _, part in subschemas(schema))


def count_values(value: Any) -> int:
    """Count the values in a value, itself included."""
    count, waiting = 0, [value]
    while waiting:
        part = waiting.pop()
        count += 1
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return count


def explain(error: jsonschema_rs.ValidationError, value: Any) -> tuple[str, str | None]:
    """Say in words what a validator found, and what would mend it; `value` is what was validated."""
    kind, limit = error.kind.name, error.kind.as_dict()
    at = value
    for part in error.instance_path:
        at = at[part]
    words = _WORDS.get(kind)
    said = words(limit, at) if words else error.message
    return said, _HINTS.get(kind)


def meant(error: jsonschema_rs.ValidationError) -> jsonschema_rs.ValidationError:
    """Return the error inside a union where only one of its branches can have been meant."""
    while error.kind.name in ("anyOf", "oneOf"):
        inner = _branch_meant(error.kind.as_dict()["context"], error.instance_path)
        if inner is None:
            break
        error = inner
    return error


def _branch_meant(
    context: list[list[jsonschema_rs.ValidationError]], path: list[str | int]
) -> jsonschema_rs.ValidationError | None:
    """Of a union, the first error of the only branch that the value is of the right type for."""
    fitting = [errors for errors in context if errors and not _is_of_other_type(errors, path)]
    return fitting[0][0] if len(fitting) == 1 else None


def _is_of_other_type(errors: list[jsonschema_rs.ValidationError], path: list[str | int]) -> bool:
    return any(error.kind.name == "type" and error.instance_path == path for error in errors)


def _types(limit: dict[str, Any], value: Any) -> str:
    return f"it must be {' or '.join(_a(name) for name in limit['types'])}, not {_a(type_name(value))}"


_NAMES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def type_name(value: object) -> str:
    """Return the JSON Schema type of a value."""
    return "null" if value is None else _NAMES.get(type(value), type(value).__name__)


def _a(name: str) -> str:
    return name if name == "null" else ("an " if name[0] in "aeiou" else "a ") + name


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


_WORDS: dict[str, Callable[[dict[str, Any], Any], str]] = {
    "type": _types,
    "enum": lambda limit, value: f"{_brief(value)} is none of {', '.join(map(_brief, limit['options'][:20]))}",
    "const": lambda limit, value: f"it must be {_brief(limit['expected_value'])}, not {_brief(value)}",
    "minimum": lambda limit, value: f"{_brief(value)} is less than {limit['limit']}",
    "maximum": lambda limit, value: f"{_brief(value)} is more than {limit['limit']}",
    "exclusiveMinimum": lambda limit, value: f"{_brief(value)} is not more than {limit['limit']}",
    "exclusiveMaximum": lambda limit, value: f"{_brief(value)} is not less than {limit['limit']}",
    "multipleOf": lambda limit, value: f"{_brief(value)} is no multiple of {limit['multiple_of']}",
    "minLength": lambda limit, value: f"it has {len(value)} characters; {limit['limit']} are the least",
    "maxLength": lambda limit, value: f"it has {len(value)} characters; {limit['limit']} are the most",
    "minItems": lambda limit, value: f"it has {len(value)} items; {limit['limit']} are the least",
    "maxItems": lambda limit, value: f"it has {len(value)} items; {limit['limit']} are the most",
    "pattern": lambda limit, value: f"{_brief(value)} does not match {limit['pattern']}",
    "required": lambda limit, value: f"it lacks `{limit['property']}`",
    "additionalProperties": lambda limit, value: f"it has unknown keys: {', '.join(sorted(limit['unexpected'])[:20])}",
    "anyOf": lambda limit, value: f"{_brief(value)} is none of what is allowed here",
    "oneOf": lambda limit, value: f"{_brief(value)} is none of what is allowed here",
    "uniqueItems": lambda limit, value: "its items must differ from each other",
}
_HINTS = {"additionalProperties": "leave them out, or mend their names", "required": "add it"}
