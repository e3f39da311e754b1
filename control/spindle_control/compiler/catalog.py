"""What workflows are checked and planned against: the node types, queues and models that the workers offer.

The registry makes a `Catalog` of the manifests. The compiler reads a node type through its compiled form, whose ports
carry validators; forms are cached by content, so a new catalog of the same types costs next to nothing.
"""

import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from spindle_common.contracts import ModelInfo, NodeType, Port
from spindle_common.digests import digest_of
from spindle_common.durations import parse_duration
from spindle_control.compiler.marks import marks_in
from spindle_control.compiler.schemas import Validator, compiled, holds_artifact

PREFERRED_QUEUE = "gpu"
LIGHT_QUEUE = "async"


class CompiledPort:
    """A port: its type as a schema in which `{"artifact": media}` may stand, or the kind of handle it holds."""

    def __init__(self, name: str, port: Port) -> None:
        self.name = name
        self.handle = (port.handle or "handle") if port.kind == "handle" else None
        self.required = port.required
        self.schema: dict[str, Any] = _artifact_schema(port) if port.kind == "artifact" else port.schema_
        self.is_model = self.schema.get("x-spindle") == "model"
        self.follows = marks_in(self.schema)

    def typed(self, schema: Any) -> "CompiledPort":
        """Return the same port with another type."""
        port = copy(self)
        port.__dict__.pop("validator", None)
        port.schema = schema if isinstance(schema, dict) else {}
        return port

    @cached_property
    def validator(self) -> Validator | None:
        """Checks values; None where the worker's schema cannot be compiled here: then the worker checks."""
        try:
            return compiled(self.schema)
        except ValueError:
            return None


class CompiledType:
    """A node type with its ports compiled; `key` names its content."""

    def __init__(self, node_type: NodeType, key: str) -> None:
        self.name, self.key = node_type.type, key
        self.inputs = {name: CompiledPort(name, port) for name, port in node_type.inputs.items()}
        self.outputs = {name: CompiledPort(name, port) for name, port in node_type.outputs.items()}
        self.required = frozenset(name for name, port in self.inputs.items() if port.required)
        self.open_inputs = _pattern(node_type.open_inputs)
        self.deterministic = node_type.deterministic
        self.timeout = parse_duration(node_type.timeout) if node_type.timeout else None

    def input(self, name: str) -> CompiledPort | None:
        """Return the input port of that name; open inputs take any value."""
        port = self.inputs.get(name)
        if port is None and self.open_inputs is not None and self.open_inputs.fullmatch(name):
            return _OPEN
        return port


@dataclass(frozen=True)
class Catalog:
    """Node types by name, the queues that offer each (none: light), and the models by name.

    `live_queues` are those that a live worker serves now.
    """

    types: Mapping[str, NodeType]
    queues: Mapping[str, frozenset[str]]
    live_queues: frozenset[str]
    models: Mapping[str, ModelInfo]
    default_model: str | None

    def compiled(self, name: str) -> CompiledType | None:
        """Return a node type in its compiled form."""
        if name not in self._forms and (node_type := self.types.get(name)) is not None:
            self._forms[name] = _compile(node_type.model_dump_json(exclude={"queue"}, by_alias=True))
        return self._forms.get(name)

    @cached_property
    def _forms(self) -> dict[str, CompiledType]:
        """Those asked for before: each body of a workflow asks anew."""
        return {}

    def choose(self, offered: frozenset[str]) -> str:
        """Choose among queues: `gpu` where live, else a live one, else any; light work takes an async slot."""
        if not offered:
            return LIGHT_QUEUE
        best = offered & self.live_queues or offered
        return PREFERRED_QUEUE if PREFERRED_QUEUE in best else min(best)

    def recipe(self, name: str) -> dict[str, Any]:
        """Pin a model: its name with the digest that it has now."""
        return {"model": name, "digest": self.models[name].digest, "adapters": []}


@lru_cache(maxsize=2048)
def _compile(text: str) -> CompiledType:
    return CompiledType(NodeType.model_validate_json(text), digest_of(text.encode()))


def _artifact_schema(port: Port) -> dict[str, Any]:
    return port.schema_ if holds_artifact(port.schema_) else {"artifact": port.media_type or "*/*"}


def _pattern(text: str | None) -> re.Pattern[str] | None:
    return re.compile(text) if text else None


_OPEN = CompiledPort("", Port(kind="value", required=False))
