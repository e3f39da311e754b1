"""References inside values: found, read, and followed into the types of what they refer to.

    {"$from": "node.port"}   {"$from": "inputs.name"}   {"$from": "node.port.key.0"} goes into a value
    {"$expr": "CEL"}   {"$first": [refs]}   {"$present": [refs]}   {"$secret": "name"}   {"$literal": anything}

Each is an object with that one key. Any other key that starts with `$` is a mistake, so that a slip of the pen never
passes as a value.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from spindle_common.expressions import MAX_CHARACTERS, Expression, ExpressionError, parse
from spindle_control.compiler.report import Report, below, shown
from spindle_control.compiler.types import types_of
from spindle_control.compiler.work import MIXED_REFERENCE, VALUE, WRONG_EXPRESSION, expression_cost, pointer_cost

MARKERS = ("$from", "$expr", "$first", "$present", "$secret", "$literal")
_MARKERS = frozenset(MARKERS)
_REFERENCE = re.compile(r"([a-z][a-z0-9_]{0,63})\.([A-Za-z_][A-Za-z0-9_]{0,63})((?:\.[^.\x00-\x1f]{1,128}){0,16})")
USUAL = 160
"""Characters that references seldom exceed; what they say is remembered for those that do not."""
_SECRET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ARTIFACT_KEYS = {"digest": {"type": "string"}, "media_type": {"type": "string"}, "size": {"type": "integer"}}


class Reference(NamedTuple):
    """What stands at `pointer`: `owner` is "inputs" or a node's id, `name` an input or a port."""

    owner: str
    name: str
    deeper: tuple[str, ...]
    pointer: str

    @property
    def text(self) -> str:
        """The reference as it was written."""
        return ".".join((self.owner, self.name, *self.deeper)) if self.deeper else f"{self.owner}.{self.name}"


@dataclass(slots=True)
class Found:
    """What a value refers to; `pure` if nothing, and `nested` are the references below its top."""

    references: list[Reference] = field(default_factory=list)
    expressions: list[tuple[Expression, str]] = field(default_factory=list)
    pure: bool = True
    secret: bool = False


class NothingThere(LookupError):
    """A type has no such part; `known` are those that it has."""

    def __init__(self, message: str, known: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.known = known


def marker_of(value: Any) -> str | None:
    """Return the marker of a value that is one, such as `$from`."""
    if type(value) is dict and len(value) == 1:
        key = next(iter(value))
        return key if key in _MARKERS else None
    return None


def find(value: Any, pointer: str, report: Report) -> Found:
    """Find every reference in a value; what is wrong with one is noted in the report."""
    found = Found()
    if type(value) in (dict, list):
        _walk(value, pointer, report, found)
    return found


def _walk(value: Any, pointer: str, report: Report, found: Found) -> None:
    """Read the markers in a list or an object. Other passes look at the same places: this one pays for all."""
    if type(value) is dict:
        marked = [key for key in value if key[:1] == "$"]
        if marked:
            found.pure = False
            report.spend(MIXED_REFERENCE + pointer_cost(pointer), "references")
            _read_marker(value, marked, pointer, report, found)
            return
    inner = value.items() if type(value) is dict else enumerate(value)
    parts = [(key, item) for key, item in inner if type(item) is dict or type(item) is list]
    if parts:
        report.spend(len(parts) * (VALUE + pointer_cost(pointer)), "values")
    for key, item in parts:
        _walk(item, f"{pointer}/{key}" if type(key) is int else below(pointer, str(key)), report, found)


def _read_marker(value: dict[str, Any], marked: list[str], pointer: str, report: Report, found: Found) -> None:
    key = marked[0]
    if key not in MARKERS:
        otherwise = 'write {"$literal": …} around a value whose keys start with `$`'
        near = report.nearest(key, MARKERS)
        hint = f"did you mean `{near}`?" if near else otherwise
        report.add(below(pointer, key), "unknown-marker", f"`{shown(key)[1:-1]}` has no meaning here", hint)
    elif len(value) > 1:
        hint = f'write {{"{key}": …}} alone; a literal with such keys goes into {{"$literal": …}}'
        report.add(pointer, "bad-reference", f"an object with `{key}` must have no other key", hint)
    else:
        _READERS[key](value[key], f"{pointer}/{key}", report, found)


def _read_from(text: Any, pointer: str, report: Report, found: Found) -> None:
    reference = read_reference(text, pointer)
    if reference is None:
        given = text in ("item", "index")
        hint = f'write "inputs.{text}"' if given else 'write "node.port", or "inputs.name"'
        report.add(pointer, "bad-reference", f"{shown(text)} is no reference", hint)
    else:
        found.references.append(reference)


def read_reference(text: Any, pointer: str) -> Reference | None:
    """Read "node.port", perhaps with a path into its value; None if it is no reference."""
    parts = None if not isinstance(text, str) else _parts(text) if len(text) <= USUAL else _parts.__wrapped__(text)
    return None if parts is None else Reference(*parts, pointer)


@lru_cache(maxsize=8192)
def _parts(text: str) -> tuple[str, str, tuple[str, ...]] | None:
    match = _REFERENCE.fullmatch(text)
    if match is None:
        return None
    owner, name, deeper = match.groups()
    return owner, name, tuple(deeper.split(".")[1:]) if deeper else ()


def _read_expression(text: Any, pointer: str, report: Report, found: Found) -> None:
    expression = read_expression(text, pointer, report)
    if expression is not None:
        found.expressions.append((expression, pointer))


def read_expression(text: Any, pointer: str, report: Report) -> Expression | None:
    """Parse CEL; what is wrong with it is noted in the report."""
    if not isinstance(text, str):
        report.add(pointer, "bad-expression", "an expression is text", 'write it in quotes: "inputs.seed + 1"')
        return None
    if text in report.expressions:
        return report.expressions[text]
    report.spend(expression_cost(text[:MAX_CHARACTERS]), "expressions")
    try:
        report.expressions[text] = parse(text)
    except ExpressionError as error:
        report.spend(WRONG_EXPRESSION, "expressions")
        report.add(pointer, error.code, f"{shown(text, 80)}: {error}", error.hint)
        return None
    return report.expressions[text]


def _read_list(refs: Any, pointer: str, report: Report, found: Found) -> None:
    if not isinstance(refs, list) or not refs:
        report.add(pointer, "bad-reference", "it must be a list of references", 'write [{"$from": "node.port"}, …]')
        return
    for at, ref in enumerate(refs):
        if marker_of(ref) in ("$from", "$expr", "$first", "$literal"):
            _walk(ref, f"{pointer}/{at}", report, found)
        else:
            hint = 'write {"$from": "node.port"}; a value goes into {"$literal": …}'
            report.add(f"{pointer}/{at}", "bad-reference", f"{shown(ref)} is no reference", hint)


def _read_secret(name: Any, pointer: str, report: Report, found: Found) -> None:
    found.secret = True
    if not isinstance(name, str) or not _SECRET.fullmatch(name):
        report.add(
            pointer, "bad-reference", f"{shown(name)} is no name of a secret", "letters, digits, `.`, `_` and `-`"
        )


def _read_literal(value: Any, pointer: str, report: Report, found: Found) -> None:
    """Whatever stands in `$literal` is a value."""


_READERS = {
    "$from": _read_from,
    "$expr": _read_expression,
    "$first": _read_list,
    "$present": _read_list,
    "$secret": _read_secret,
    "$literal": _read_literal,
}


def follow(schema: Any, deeper: tuple[str, ...]) -> Any:
    """Return the type of a part of a value. Raises NothingThere where it certainly has no such part."""
    for part in deeper:
        schema = _step(schema, part)
    return schema


def _step(schema: Any, part: str) -> Any:
    if not isinstance(schema, dict) or any(key in schema for key in ("anyOf", "oneOf", "allOf", "$ref")):
        return {}
    if "artifact" in schema:
        if part not in _ARTIFACT_KEYS:
            raise NothingThere(f"an artifact has no `{part}`", tuple(_ARTIFACT_KEYS))
        return _ARTIFACT_KEYS[part]
    kinds = types_of(schema) & {"object", "array"}
    if not kinds:
        raise NothingThere("its value has no parts")
    if kinds == {"array"}:
        if not part.isdecimal():
            raise NothingThere(f"its value is a list, and `{part}` is no position in it")
        return schema.get("items", {})
    return _property(schema, part) if kinds == {"object"} else {}


def _property(schema: dict[str, Any], part: str) -> Any:
    known = schema.get("properties", {})
    if part in known:
        return known[part]
    rest = schema.get("additionalProperties", {})
    if rest is False and "patternProperties" not in schema:
        raise NothingThere(f"its value has no `{part}`", tuple(known))
    return rest if isinstance(rest, dict) and "patternProperties" not in schema else {}
