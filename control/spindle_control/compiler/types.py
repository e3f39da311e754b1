"""Whether what one port gives can be what another wants, as far as that is certain before a run.

Types are JSON Schemas in which `{"artifact": "image/*"}` stands for an artifact. `clash` answers with a reason only
when no value fits both (an empty list aside); whatever is merely possible is left until the value is known. Compared
are type, enum, const, bounds, items, properties and media type.
"""

import json
from collections.abc import Callable
from typing import Any

from spindle_control.compiler.schemas import artifact_object, compiled, type_name
from spindle_control.compiler.work import COMPARISON, VALUES

_ALL = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
_NUMERIC = frozenset({"integer", "number"})
_MAX_DEPTH = 12
_MAX_COMPARISONS = 500
_SIZES = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}


def clash(given: Any, wanted: Any, pay: Callable[[int], None] | None = None) -> str | None:
    """Return why nothing that `given` describes can be what `wanted` describes, or None; `pay` is told what it took, in
    microseconds.
    """
    comparison = _Comparison()
    reason = comparison.clash(given, wanted, 0)
    if pay is not None:
        pay(comparison.work)
    return reason


class _Comparison:
    """One comparison, with a bound on its work: unions inside unions multiply."""

    def __init__(self) -> None:
        self._left = _MAX_COMPARISONS
        self._values_tried = 0

    @property
    def work(self) -> int:
        """What it has taken."""
        return COMPARISON * (_MAX_COMPARISONS - max(self._left, 0)) + self._values_tried

    def clash(self, given: Any, wanted: Any, depth: int) -> str | None:
        """Compare unions by their branches, the rest directly."""
        self._left -= 1
        if depth > _MAX_DEPTH or self._left < 0 or not isinstance(given, dict) or not isinstance(wanted, dict):
            return None
        for key in ("anyOf", "oneOf"):
            reason = self._every([(one, wanted) for one in _branches(given, key)], depth) or self._every(
                [(given, one) for one in _branches(wanted, key)], depth
            )
            if reason:
                return reason
        together = [(one, wanted) for one in _branches(given, "allOf")] + [
            (given, o) for o in _branches(wanted, "allOf")
        ]
        return self._any(together, depth) or self._direct(given, wanted, depth)

    def _every(self, pairs: list[tuple[Any, Any]], depth: int) -> str | None:
        """A union clashes if each of its branches does."""
        first = None
        for one, other in pairs:
            reason = self.clash(one, other, depth + 1)
            if reason is None:
                return None
            first = first or reason
        return first

    def _any(self, pairs: list[tuple[Any, Any]], depth: int) -> str | None:
        return next((why for one, other in pairs if (why := self.clash(one, other, depth + 1))), None)

    def _direct(self, given: dict[str, Any], wanted: dict[str, Any], depth: int) -> str | None:
        if "artifact" in given and "artifact" in wanted:
            return _media_clash(given["artifact"], wanted["artifact"])
        if "artifact" in given or "artifact" in wanted:
            return self._as_object(given, wanted, depth)
        if reason := self._value_clash(given, wanted):
            return reason
        common = _common_types(given, wanted)
        if not common:
            return f"{describe(given)} is not {describe(wanted)}"
        if common <= _NUMERIC:
            return _number_clash(given, wanted)
        if len(common) > 1:
            return None
        (only,) = common
        return self._parts(only, given, wanted, depth)

    def _value_clash(self, given: dict[str, Any], wanted: dict[str, Any]) -> str | None:
        """Where one side names its values, the other must take one of them."""
        for named, other in (_values(given), wanted), (_values(wanted), given):
            if named is None or len(named) > 256 or any(type_name(value) in ("object", "array") for value in named):
                continue
            self._values_tried += VALUES + 2 * len(named)
            try:
                validator = compiled(other)
                if not any(map(validator.fits, named)):
                    return f"{describe(given)} is not {describe(wanted)}"
            except ValueError:
                continue
        return None

    def _as_object(self, given: dict[str, Any], wanted: dict[str, Any], depth: int) -> str | None:
        left = artifact_object(given["artifact"]) if "artifact" in given else given
        right = artifact_object(wanted["artifact"]) if "artifact" in wanted else wanted
        if self.clash(left, right, depth + 1):
            return f"{describe(given)} is not {describe(wanted)}"
        return None

    def _parts(self, only: str, given: dict[str, Any], wanted: dict[str, Any], depth: int) -> str | None:
        if only in _SIZES and (reason := _size_clash(given, wanted, *_SIZES[only])):
            return reason
        if only == "array" and given.get("maxItems") != 0:
            reason = self.clash(given.get("items"), wanted.get("items"), depth + 1)
            return reason and f"of its items, {reason}"
        if only == "object":
            return self._properties(given, wanted, depth)
        return None

    def _properties(self, given: dict[str, Any], wanted: dict[str, Any], depth: int) -> str | None:
        has, wants = given.get("properties", {}), wanted.get("properties", {})
        sure = set(given.get("required", ())) | set(wanted.get("required", ()))
        for name in sorted(sure & has.keys() & wants.keys()):
            if reason := self.clash(has[name], wants[name], depth + 1):
                return f"of its `{name}`, {reason}"
        if given.get("additionalProperties") is False:
            missing = sorted(set(wanted.get("required", ())) - has.keys())
            if missing and "patternProperties" not in given:
                return f"it has no `{missing[0]}`"
        if wanted.get("additionalProperties") is False and "patternProperties" not in wanted:
            surplus = sorted(set(given.get("required", ())) - wants.keys())
            if surplus:
                return f"it has `{surplus[0]}`, which is not taken"
        return None


def describe(schema: Any) -> str:
    """Say in a few words what a schema describes."""
    if not isinstance(schema, dict):
        return "anything"
    if "artifact" in schema:
        return str(schema["artifact"])
    values = _values(schema)
    if values is not None:
        return _one_of([json.dumps(value, ensure_ascii=False) for value in values])
    branches = _branches(schema, "anyOf") or _branches(schema, "oneOf")
    if branches and "type" not in schema:
        return " or ".join(dict.fromkeys(describe(branch) for branch in branches[:6]))
    return _describe_type(schema)


def _describe_type(schema: dict[str, Any]) -> str:
    names = schema.get("type", [])
    names = [names] if isinstance(names, str) else names
    if names == ["array"] and isinstance(schema.get("items"), dict):
        return f"a list of {describe(schema['items'])}"
    text = " or ".join(_article(name) for name in names) or "anything"
    low, high = _bounds(schema)
    if low is not None and high is not None:
        return f"{text} from {low[0]} to {high[0]}"
    if low is not None:
        return f"{text} {'above' if low[1] else 'of at least'} {low[0]}"
    if high is not None:
        return f"{text} {'below' if high[1] else 'of at most'} {high[0]}"
    return text


def _article(name: str) -> str:
    if name in ("null", "array"):
        return {"null": "null", "array": "a list"}[name]
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _one_of(values: list[str]) -> str:
    shown = [value if len(value) <= 40 else value[:39] + "…" for value in values[:8]]
    return shown[0] if len(values) == 1 else f"one of {', '.join(shown)}{' …' if len(values) > 8 else ''}"


def types_of(schema: Any) -> frozenset[str]:
    """Return the JSON types that a schema lets through, by its own `type` alone; an integer is also a number."""
    if not isinstance(schema, dict):
        return _ALL
    if "artifact" in schema:
        return frozenset({"object"})
    names = schema.get("type")
    if names is None:
        return _ALL
    found = frozenset([names] if isinstance(names, str) else names)
    return found | {"integer"} if "number" in found else found


def _common_types(given: dict[str, Any], wanted: dict[str, Any]) -> frozenset[str]:
    left, right = types_of(given), types_of(wanted)
    common = left & right
    # A number may turn out to be whole, so it may be what an integer port wants.
    return common | {"integer"} if "integer" in left | right and left & _NUMERIC and right & _NUMERIC else common


def _branches(schema: dict[str, Any], key: str) -> list[Any]:
    found = schema.get(key)
    return found if isinstance(found, list) else []


def media_overlap(one: str, other: str) -> bool:
    """Whether some media type fits both; either may be a range such as `image/*`."""
    pairs = zip(one.lower().split("/", 1), other.lower().split("/", 1), strict=False)
    return all(left == right or "*" in (left, right) for left, right in pairs)


def _media_clash(given: str, wanted: str) -> str | None:
    return None if media_overlap(given, wanted) else f"{given} is not {wanted}"


def _values(schema: dict[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    found = schema.get("enum")
    return found if isinstance(found, list) else None


_Bound = tuple[float, bool]


def _bounds(schema: dict[str, Any]) -> tuple[_Bound | None, _Bound | None]:
    """Return the least and the greatest number let through, each with whether it is itself shut out."""
    low = [(schema[key], key != "minimum") for key in ("minimum", "exclusiveMinimum") if _is_number(schema.get(key))]
    high = [(schema[key], key != "maximum") for key in ("maximum", "exclusiveMaximum") if _is_number(schema.get(key))]
    return max(low, default=None), min(high, key=lambda bound: (bound[0], not bound[1]), default=None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number_clash(given: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    for one, other in (given, wanted), (wanted, given):
        low, high = _bounds(one)[0], _bounds(other)[1]
        if low and high and (low[0] > high[0] or (low[0] == high[0] and (low[1] or high[1]))):
            return f"{describe(given)} is not {describe(wanted)}"
    return None


def _size_clash(given: dict[str, Any], wanted: dict[str, Any], least: str, most: str) -> str | None:
    for one, other in (given, wanted), (wanted, given):
        low, high = one.get(least, 0), other.get(most)
        if _is_number(low) and _is_number(high) and low > high:
            of = "characters" if least == "minLength" else "items"
            return f"at least {low} {of} against at most {high}"
    return None
