"""What a check leaves behind: the workflow, known to be right, in the form that binding and planning read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spindle_common.contracts import Mistake
from spindle_control.compiler.catalog import CompiledType
from spindle_control.compiler.schemas import Validator

MISSING: Any = object()


@dataclass(frozen=True, slots=True)
class InputPort:
    """What a run may be given: its type as a schema (artifacts as `{"artifact": media}`), and its default."""

    name: str
    schema: dict[str, Any]
    validator: Validator
    optional: bool = False
    default: Any = MISSING

    @property
    def required(self) -> bool:
        """Whether a run must give it."""
        return not self.optional and self.default is MISSING


@dataclass(slots=True)
class CheckedNode:
    """A node with what it refers to.

    `needs` maps the nodes that it waits for to where each is named (a JSON
    Pointer); `after` are those that give no data, `handles` those from which a handle comes.
    """

    id: str
    type: CompiledType
    inputs: dict[str, Any] = field(default_factory=dict)
    when: str | None = None
    needs: dict[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    handles: dict[str, str] = field(default_factory=dict)
    reads: set[str] = field(default_factory=set)
    queue: str | None = None
    on_error: str = "fail"
    timeout: float | None = None
    idle: float | None = None
    queue_timeout: float | None = None
    max_attempts: int = 1
    backoff: float = 1.0
    cache: bool = True


@dataclass(frozen=True)
class Checked:
    """A workflow without mistakes; `nodes` stand in an order in which they could run."""

    document: dict[str, Any]
    nodes: Mapping[str, CheckedNode]
    inputs: Mapping[str, InputPort]
    outputs: Mapping[str, Any]
    on_failure: str
    warnings: tuple[Mistake, ...]
