"""The node types of control flow, which control carries out itself: their keys, and the types of what they give.

flow.map@1      the body once for each item of a list, some at a time; each output becomes a list, in order
flow.loop@1     the body again and again, its outputs carried to the next iteration, until an expression is true
flow.call@1     a stored workflow as a node
flow.approve@1  a person's answer
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from spindle_common.contracts import Port
from spindle_control.compiler.catalog import CompiledPort, CompiledType
from spindle_control.compiler.shapes import Shape

COMMON = frozenset(["type", "title", "when", "after", "on_error"])


class Flow(NamedTuple):
    """The keys of a node of control flow beside the common ones."""

    required: tuple[str, ...]
    optional: tuple[str, ...]

    @property
    def keys(self) -> frozenset[str]:
        """All that it may have."""
        return COMMON.union(self.required, self.optional)


FLOWS: Mapping[str, Flow] = {
    "flow.map@1": Flow(("over", "body"), ("concurrency", "on_item_error", "with")),
    "flow.loop@1": Flow(("max_iterations", "body"), ("carry", "with", "until")),
    "flow.call@1": Flow(("workflow_ref",), ("inputs",)),
    "flow.approve@1": Flow(("answer",), ("show", "deadline", "default")),
}
FLOW_KEYS = frozenset(key for flow in FLOWS.values() for key in (*flow.required, *flow.optional)) - {"inputs"}
INDEX: dict[str, Any] = {"type": "integer", "minimum": 0}
_ADDED: dict[str, dict[str, Any]] = {
    "flow.loop@1": {"iterations": {"type": "integer", "minimum": 1}, "reached": {"type": "boolean"}},
    "flow.approve@1": {"answered": {"type": "boolean"}},
}
_ANY = CompiledPort("", Port(kind="value", required=False))


class FlowType(CompiledType):
    """The type of one node of control flow: what it gives depends on its body."""

    def __init__(self, name: str, outputs: Mapping[str, Any]) -> None:
        self.name, self.key = name, name
        self.inputs: dict[str, CompiledPort] = {}
        self.outputs = {port: value_port(port, schema) for port, schema in outputs.items()}
        self.required = frozenset()
        self.open_inputs = None
        self.deterministic = True
        self.timeout = None


def value_port(name: str, schema: Any, *, required: bool = False) -> CompiledPort:
    """Return a port for values of a type."""
    port = _ANY.typed(schema)
    port.name, port.required = name, required
    return port


def added(name: str) -> Mapping[str, Any]:
    """What a type gives beside the outputs of its body."""
    return _ADDED.get(name, {})


def flow_type(name: str, node: Mapping[str, Any], outputs: Mapping[str, Shape]) -> FlowType:
    """Return the type of a node; `outputs` are those of its body, or of the workflow that it calls."""
    found = {port: shape.schema for port, shape in outputs.items()}
    if name == "flow.map@1":
        nullable = node.get("on_item_error") == "null"
        found = {
            port: {"type": "array", "items": _or_null(schema) if nullable else schema} for port, schema in found.items()
        }
    elif name == "flow.approve@1":
        found = {"answer": node.get("answer", {})}
    return FlowType(name, {**found, **added(name)})


def _or_null(schema: Any) -> Any:
    return {"anyOf": [schema, {"type": "null"}]} if schema else {}
