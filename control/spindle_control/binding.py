"""What a body is given, when the values are known: checked against its inputs, defaults filled in."""

from collections.abc import Iterable, Mapping
from typing import Any

from spindle_common.problems import BadInput
from spindle_control.compiler import PlanFlow, fitted


def bind(flow: PlanFlow, given: Mapping[str, Any], names: Iterable[str] | None = None) -> dict[str, Any]:
    """Return inputs of a flow's body: all of them, or those of some names.

    Raises:
        BadInput: a value does not fit.

    """
    known = flow.body.inputs if flow.body else {}
    bound: dict[str, Any] = {}
    for name in known.keys() if names is None else known.keys() & set(names):
        spec = known[name]
        if name in given:
            bound[name], wrong = fitted(spec["schema"], given[name])
            if wrong:
                raise BadInput(f"the input `{name}` of what `{flow.id}` runs: {wrong}")
        elif "default" in spec:
            bound[name] = spec["default"]
        elif not spec["optional"]:
            raise BadInput(f"the input `{name}` of what `{flow.id}` runs is not given")
    return bound


def others(flow: PlanFlow, *names: str) -> set[str]:
    """The inputs of a flow's body but these."""
    return {*(flow.body.inputs if flow.body else ())} - {*names}
