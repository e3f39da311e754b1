"""What a node gets: references resolved against what is known, and whether the node runs at all.

Both planes use this file, so that they decide alike: control before it dispatches, the worker before it calls.

* A reference to a skipped node skips its reader, or leaves an optional port out; `has(node.port)` asks first.
* A reference to a failed node, or to one that could not run because of it, skips its reader as `upstream-failed`.
* `when` that is not true skips the node.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from spindle_common import expressions
from spindle_common.problems import BadInput

Outcome = dict[str, Any]
UPSTREAM_FAILED = "upstream-failed"
INPUT_SKIPPED = "input-skipped"
WHEN_FALSE = "when-false"
ENDED = frozenset({"completed", "failed", "skipped", "cancelled"})


class Skip(NamedTuple):
    """The node does not run."""

    reason: str


class _SkippedError(Exception):
    """What was referred to was skipped."""


class _BlockedError(Exception):
    """What was referred to failed."""


class Scope(NamedTuple):
    """What references may see: the run's inputs, outcomes by path, and secrets where they may be opened."""

    inputs: Mapping[str, Any]
    outcomes: Mapping[str, Outcome]
    secret: Callable[[str], str] | None = None


def decide(node: Mapping[str, Any], scope: Scope) -> Skip | dict[str, Any]:
    """Return the node's input values, or why it is skipped; all it needs must have ended.

    `node` is a `TaskNode` of `task.schema.json`. Raises BadInput when an expression fails.
    """
    for path in node.get("after", ()):
        if _blocks(scope.outcomes[path]):
            return Skip(UPSTREAM_FAILED)
    try:
        when = node.get("when")
        if when is not None and not _is_true(when, scope):
            return Skip(WHEN_FALSE)
        return _inputs(node, scope)
    except _SkippedError:
        return Skip(INPUT_SKIPPED)
    except _BlockedError:
        return Skip(UPSTREAM_FAILED)


def resolve_outputs(outputs: Mapping[str, Any], scope: Scope) -> dict[str, Any]:
    """Resolve a workflow's outputs; those that refer to skipped or failed nodes are left out."""
    found = {}
    for name, value in outputs.items():
        try:
            found[name] = resolve(value, scope)
        except (_SkippedError, _BlockedError):
            continue
    return found


def resolve(value: Any, scope: Scope) -> Any:
    """Replace every reference in a value, at any depth."""
    if isinstance(value, list):
        return [resolve(item, scope) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (key, inner), *_ = value.items()
        if key in _FORMS:
            return _FORMS[key](inner, scope)
    return {key: resolve(item, scope) for key, item in value.items()}


def references(value: Any) -> Iterable[str]:
    """Yield the dotted references in a value, those inside expressions included."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        if "$literal" in value:
            return
        if isinstance(value.get("$from"), str):
            yield value["$from"]
        elif isinstance(value.get("$expr"), str):
            yield from expressions.parse(value["$expr"]).roots
        else:
            for item in value.values():
                yield from references(item)


def evaluate(text: str, scope: Scope) -> Any:
    """Evaluate a CEL expression over what its variables refer to."""
    expression = expressions.parse(text)
    known: dict[str, dict[str, Any]] = {}
    skipped = False
    for dotted in expression.roots:  # a set, whose order differs from process to process: so a failure always wins
        owner, _, name = dotted.partition(".")
        try:
            known.setdefault(owner, {})[name] = _look_up(dotted, scope)
        except _SkippedError:
            skipped = skipped or dotted not in expression.scan.asked
    if skipped:
        raise _SkippedError
    try:
        return expressions.evaluate(expression, known)
    except expressions.ExpressionError as error:
        raise BadInput(f"`{text}`: {error}") from error


def is_reached(until: str, scope: Scope) -> bool:
    """Whether a loop has come to its end: not by an `until` that refers to a skipped node. Raises BadInput."""
    try:
        return _is_true(until, scope, "until")
    except (_SkippedError, _BlockedError):
        return False


def _is_true(text: str, scope: Scope, key: str = "when") -> bool:
    value = evaluate(text, scope)
    if not isinstance(value, bool):
        raise BadInput(f"`{key}` must give true or false; `{text}` gave {type(value).__name__}")
    return value


def _inputs(node: Mapping[str, Any], scope: Scope) -> dict[str, Any]:
    found = {}
    for port, value in node.get("inputs", {}).items():
        try:
            found[port] = resolve(value, scope)
        except _SkippedError:
            if port not in node.get("optional", ()):
                raise
    return found


def _look_up(dotted: str, scope: Scope) -> Any:
    owner, name, *deeper = dotted.split(".")
    if owner == "inputs":
        if name not in scope.inputs:
            raise _SkippedError
        value = scope.inputs[name]
    else:
        outcome = scope.outcomes[owner]
        if _blocks(outcome):
            raise _BlockedError
        if outcome["status"] != "completed":
            raise _SkippedError
        if name not in outcome["outputs"]:
            raise _SkippedError
        value = outcome["outputs"][name]
    for part in deeper:
        value = _step_into(value, part, dotted)
    return value


def _step_into(value: Any, part: str, dotted: str) -> Any:
    try:
        return value[int(part)] if isinstance(value, list) else value[part]
    except (KeyError, IndexError, TypeError, ValueError):
        raise BadInput(f"`{dotted}`: the value has no `{part}`") from None


def _blocks(outcome: Outcome) -> bool:
    return outcome["status"] in ("failed", "cancelled") or outcome.get("reason") == UPSTREAM_FAILED


def _first(refs: list[Any], scope: Scope) -> Any:
    for ref in refs:
        try:
            return resolve(ref, scope)
        except _SkippedError:
            continue
    raise _SkippedError


def _present(refs: list[Any], scope: Scope) -> list[Any]:
    found = []
    for ref in refs:
        try:
            found.append(resolve(ref, scope))
        except _SkippedError:
            continue
    return found


def _secret(name: str, scope: Scope) -> str:
    if scope.secret is None:
        raise BadInput(f"the secret {name!r} can only be used by a node")
    return scope.secret(name)


_FORMS: dict[str, Callable[[Any, Scope], Any]] = {
    "$from": _look_up,
    "$expr": evaluate,
    "$first": _first,
    "$present": _present,
    "$secret": _secret,
    "$literal": lambda value, _scope: value,
}
