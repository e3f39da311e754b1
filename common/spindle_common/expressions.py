"""CEL, the language of `when` and `$expr`: parsed once, bounded, and evaluated over what its variables refer to.

    expression = parse("inputs.seed + 1")         expression.roots == {"inputs.seed"}
    evaluate(expression, {"inputs": {"seed": 7}})  # 8

A variable is always two names, `inputs.NAME` or `NODE.PORT` (`inputs["NAME"]` says the same); each is an edge of the
graph, and one that `has(…)` asks for may be missing. Integers and floats do not mix in arithmetic: an input of type
`number` is a float, so write `inputs.scale * 2.0`, or `double(inputs.steps)`. Results are JSON; timestamps and bytes
may be used on the way.

Bounds, since the library has none: 512 characters, one comprehension, results of 64 KiB, and a budget for the
comprehension, whose `map` and `filter` take time by the square of the list's length (16,000 items took 19 s) and copy
each variable that the body names, every time.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import jsonschema_rs

from spindle_common.cel_text import Scan, ScanError, scan

MAX_CHARACTERS = 512
MAX_RESULT_BYTES = 65_536
MAX_DEPTH = 64
BUDGET = 1_000_000
FUNCTIONS = frozenset(
    """
    size contains startsWith endsWith matches int uint double string bytes timestamp duration type dyn
    getFullYear getMonth getDayOfMonth getDayOfYear getDayOfWeek getDate getHours getMinutes getSeconds getMilliseconds
    """.split()  # noqa: SIM905 - a list of two dozen strings is harder to read
)
_GROWING = frozenset({"map", "filter"})
_PATTERN_OPTIONS = jsonschema_rs.RegexOptions(size_limit=1 << 18, dfa_size_limit=1 << 18)


class ExpressionError(ValueError):
    """An expression is wrong, or failed on the values it was given; `hint` says what would mend it."""

    code = "bad-expression"

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class _Program(Protocol):
    def execute(self, context: dict[str, Any]) -> Any: ...


@dataclass(frozen=True, eq=False)
class Expression:
    """A parsed expression; `roots` are the dotted pairs that it refers to, each an edge of the graph."""

    text: str
    roots: frozenset[str]
    program: _Program
    scan: Scan


@lru_cache(maxsize=8192)
def parse(text: str) -> Expression:
    """Parse an expression and hold it to the bounds.

    Raises:
        ExpressionError: it is too long, cannot be read, or uses what is not there.

    """
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(f"it has {len(text)} characters; {MAX_CHARACTERS} are allowed")
    try:
        found = scan(text)
    except ScanError as error:
        raise ExpressionError(str(error), error.hint) from None
    _check_bounds(found)
    program = _compile(text)
    _check_names(found, program)
    return Expression(text, frozenset(found.roots), program, found)


def evaluate(expression: Expression, scope: Mapping[str, Mapping[str, object]]) -> Any:
    """Return the expression's value over `scope`: {"inputs": {"seed": 7}, "node": {"port": …}}.

    Raises:
        ExpressionError: it cannot be computed from these values, or its result is no JSON of bounded size.

    """
    known: dict[str, dict[str, object]] = {dotted.partition(".")[0]: {} for dotted in expression.scan.asked}
    for dotted in expression.roots:
        owner, _, name = dotted.partition(".")
        if name in scope.get(owner, {}):
            known.setdefault(owner, {})[name] = scope[owner][name]
    _check_budget(expression.scan, known)
    try:
        value = expression.program.execute(dict(known))
    except Exception as error:
        raise _translate(error) from None
    _check_result(value)
    return value


def _check_bounds(found: Scan) -> None:
    if len(found.macros) > 1:
        names = ", ".join(macro.name for macro in found.macros)
        raise ExpressionError(
            f"it goes through lists {len(found.macros)} times ({names}); once is allowed",
            "compute one of them in a node of its own",
        )
    for name in found.bare:
        raise ExpressionError(
            f"`{name}` stands alone; a variable is a node and its port, or an input",
            f"write `{name}.port`, or `inputs.{name}` if it is an input" if name != "inputs" else "write `inputs.name`",
        )
    for pattern in found.patterns:
        _check_pattern(pattern)


def _check_pattern(pattern: str) -> None:
    try:
        jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=_PATTERN_OPTIONS)
    except ValueError:
        raise ExpressionError(
            f"{pattern[:80]!r} is no regular expression of the bounded kind",
            "there is no look-around, and no back-reference",
        ) from None


def _compile(text: str) -> Any:
    try:
        import cel  # brings a terminal toolkit with it: 0.4 s

        return cel.compile(text)
    except ValueError as error:
        reasons = [line.partition("ERROR: <input>:")[2] for line in str(error).splitlines() if "ERROR:" in line]
        said = f"at {reasons[0][:160]}" if reasons else str(error)[:160]
        raise ExpressionError(f"it is not CEL: {said}", "see https://cel.dev for the language") from None


def _check_names(found: Scan, program: Any) -> None:
    unknown = sorted(found.functions - FUNCTIONS)
    if unknown:
        raise ExpressionError(f"there is no function `{unknown[0]}`", "there are: " + ", ".join(sorted(FUNCTIONS)))
    if not set(program.variables()) <= found.variables | {macro.variable for macro in found.macros}:
        raise ExpressionError("its variables cannot be told apart", "write each as `node.port` or `inputs.name`")


def _check_budget(found: Scan, known: Mapping[str, Mapping[str, object]]) -> None:
    """Refuse a comprehension that would take more than about a tenth of a second."""
    for macro in found.macros:
        items = macro.literal + sum(_weight(known, dotted) for dotted in found.range_roots)
        body = 10 + sum(_weight(known, dotted) for dotted in found.body_roots) + sum(map(_cost, found.patterns))
        growth = items // 2 if macro.name in _GROWING else 0
        if items * (body + growth) > BUDGET:
            raise ExpressionError(
                f"`{macro.name}` would go through a list of about {items} parts, too much work for an expression",
                "compute it in a node, or on a shorter list",
            )


def _cost(pattern: str) -> int:
    """What it takes to compile a pattern, which happens anew for each item: classes of Unicode are large."""
    return 300 + 50 * len(pattern) + 10_000 * sum(map(pattern.count, "\\.{"))


def _weight(known: Mapping[str, Mapping[str, object]], dotted: str) -> int:
    """How much there is to copy in a value: its items and keys, and its text in pieces of 64 characters."""
    owner, _, name = dotted.partition(".")
    count, waiting = 0, [known.get(owner, {}).get(name)]
    while waiting:
        value = waiting.pop()
        count += 1
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, str):
            count += len(value) // 64
    return count


def _translate(error: Exception) -> ExpressionError:
    text = str(error).strip().splitlines()[0][:240] if str(error).strip() else type(error).__name__
    if isinstance(error, KeyError):
        return ExpressionError(f"there is no {text} in the value", "ask first with `has(node.port.key)`")
    if isinstance(error, TypeError):
        said = text.partition(" CEL does not coerce")[0]
        return ExpressionError(
            said, "integers and floats do not mix: write `double(x)`, `int(x)`, or 2.0 in place of 2"
        )
    return ExpressionError(text.partition(" Check that")[0])


def _check_result(value: Any) -> None:
    waiting = [(value, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise ExpressionError(f"its result is nested more than {MAX_DEPTH} deep")
        if isinstance(part, list):
            waiting.extend((item, depth + 1) for item in part)
        elif isinstance(part, dict):
            if not all(isinstance(key, str) for key in part):
                raise ExpressionError("its result has keys that are not text", "write the keys in quotes")
            waiting.extend((item, depth + 1) for item in part.values())
        elif not _is_plain(part):
            raise ExpressionError(
                f"its result holds a {type(part).__name__}, which is no JSON", "turn it into text with `string(x)`"
            )
    if len(json.dumps(value, ensure_ascii=False).encode()) > MAX_RESULT_BYTES:
        raise ExpressionError(f"its result is larger than {MAX_RESULT_BYTES} bytes")


def _is_plain(value: Any) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionError("its result is not a finite number")
    return value is None or isinstance(value, str | bool | int | float)
