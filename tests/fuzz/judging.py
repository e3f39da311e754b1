"""What must hold for any document, right or wrong; what a document shows of the compiler tells whether to keep it.

    traits = judge(case)        raises WrongError with what does not hold; anything else that is raised is a bug as well

A case is {"document": …, "library": {"name@1": …}, "inputs": {…}, "expressions": […]}, all of it optional.
"""

import json
import re
import resource
import time
from collections.abc import Callable
from typing import Any, TypeVar

from spindle_common import expressions
from spindle_common.contracts import Mistake
from spindle_common.problems import InvalidInputs, InvalidRequest, InvalidWorkflow
from spindle_common.queue import compact
from spindle_control.bodies import parse_json
from spindle_control.calls import calls_in
from spindle_control.compiler import Checked, Limits, Plan, bind_inputs, check, plan
from spindle_worker.nodes import list as lists
from spindle_worker.nodes import specs_of, value
from support.compiler_catalog import TYPES, catalog

Json = dict[str, Any]
Traits = frozenset[str]
T = TypeVar("T")

SECONDS = 2.0
"""Processor time that one step may take: twenty times what is aimed at, since CI's machines differ."""
GROWTH = 200 << 20

_OWN = {spec.type: spec.node_type(None) for module in (lists, value) for spec in specs_of(module)}
CATALOG = catalog(
    types=_OWN | {found.type: found for found, _ in TYPES},
    queues=dict.fromkeys(_OWN, frozenset()) | {found.type: frozenset(queues) for found, queues in TYPES},
)
_SCOPE: dict[str, dict[str, object]] = {
    "inputs": {"n": 3, "x": 1.5, "s": "text", "l": [1, 2, 3], "o": {"k": [True, None]}, "item": 2, "index": 0},
    "v": {"value": [3, 1, 2], "text": "abc", "n": 2**63 - 1},
    "a": {"value": {"a": {"b": "c"}}, "answer": {"yes": True}},
}
_NAMED = re.compile(r"\{.*\}?|\[.*\]?|`[^`]*`|'.*'|\".*\"|[0-9]+|[^a-z ]+")


_FORMS = frozenset(
    {"$from", "$expr", "$first", "$present", "$secret", "when", "over", "until", "after", "inputs", "outputs"}
)


class WrongError(Exception):
    """Something that must hold does not."""


def judge(case: Json) -> Traits:
    """Check, plan, bind and evaluate. Raises WrongError, or whatever the code under test wrongly raises."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    traits: set[str] = set()
    if "document" in case:
        traits |= _document(case["document"], case.get("library", {}), case.get("inputs", {}))
    for text in case.get("expressions", ()):
        traits |= _expression(text)
    grew = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - before
    if grew > GROWTH:
        raise WrongError(f"it took {grew >> 20} MiB")
    return frozenset(traits)


def _bounded(what: str, work: Callable[[], T]) -> T:
    began = time.process_time()
    try:
        return work()
    finally:
        took = time.process_time() - began
        if took > SECONDS:
            raise WrongError(f"{what} took {took:.2f} s of processor time")


def _document(document: Any, library: Json, inputs: Any) -> set[str]:
    list(calls_in(document))
    text = json.dumps(document)
    traits = {f"body {trait}" for trait in _body(text)}
    try:
        checked = _bounded("check", lambda: check(document, CATALOG, Limits(), library))
    except InvalidWorkflow as error:
        return traits | _mistakes(error.errors, document)
    finally:
        if json.dumps(document) != text:
            raise WrongError("the check has changed the document")
    return traits | _planned(checked) | _bound(checked, inputs) | _mistakes(checked.warnings, document)


def _body(text: str) -> set[str]:
    """The document as it arrives: as bytes."""
    try:
        parse_json(text.encode())
    except InvalidRequest as error:
        return {each.code for each in error.errors}
    return set()


def _mistakes(mistakes: tuple[Mistake, ...], document: Any) -> set[str]:
    for each in mistakes:
        if not resolves(each.pointer, document):
            raise WrongError(f"nothing stands at {each.pointer!r} ({each.code}: {each.detail})")
        if len(each.detail) > 500:
            raise WrongError(f"{each.code} at {each.pointer!r} takes {len(each.detail)} characters to tell")
    return {f"{each.code} {_kind(each.pointer)} {_NAMED.sub('', each.detail)[-12:]}" for each in mistakes}


def resolves(pointer: str, document: Any) -> bool:
    """Whether a JSON Pointer names something in a document (RFC 6901)."""
    value = document
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return False
    return True


def _kind(pointer: str) -> str:
    """The shape of a pointer: its keywords, not what its author named."""
    known = {"nodes", "inputs", "outputs", "body", "with", "carry", "over", "until", "when", "after", "show", "answer"}
    parts = [part if part in known or part.startswith("$") else "*" for part in pointer.split("/")[1:]]
    return " ".join([*sorted(set(parts) & {"body"}), *(part for part in parts[-1:] if part in _FORMS)])


def _planned(checked: Checked) -> set[str]:
    traits = {"checked"}
    for chains in (True, False):
        made = _bounded("plan", lambda chains=chains: plan(checked, CATALOG, chains=chains))  # type: ignore[misc]
        again = Plan.from_json(json.loads(compact(made.to_json())))
        if again.to_json() != made.to_json():
            raise WrongError("the plan does not survive a trip through JSON")
        nodes = {id_ for task in made.tasks for id_ in task.nodes} | {flow.id for flow in made.level.flows}
        if nodes != set(checked.nodes) or set(made.node_task) != nodes:
            raise WrongError("the plan does not have the nodes of the workflow")
        kinds = sorted({flow.kind for flow in made.level.flows})
        traits.add(f"planned {min(len(made.tasks), 3)} {kinds}")
    return traits


def _bound(checked: Checked, inputs: Any) -> set[str]:
    try:
        bound = _bounded("bind", lambda: bind_inputs(checked, inputs))
    except InvalidInputs as error:
        return _mistakes(tuple(each for each in error.errors if _is_there(each)), {"inputs": inputs})
    compact(bound)
    return {f"bound {min(len(bound), 3)}"}


def _is_there(mistake: Mistake) -> bool:
    return mistake.code != "missing-input"


def _expression(text: Any) -> set[str]:
    if not isinstance(text, str):
        return set()
    try:
        parsed = _bounded("parse", lambda: expressions.parse(text))
    except expressions.ExpressionError as error:
        return {f"unreadable {_NAMED.sub('', str(error))[:30]}"}
    try:
        compact(_bounded("evaluate", lambda: expressions.evaluate(parsed, _SCOPE)))
    except expressions.ExpressionError as error:
        return {f"failed {_NAMED.sub('', str(error))[:30]}"}
    return {f"evaluated {sorted(macro.name for macro in parsed.scan.macros)} {min(len(parsed.roots), 3)}"}
