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
    Pointer); `after` are those that must not fail, whatever they give, `handles` those from which a handle comes.
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


@dataclass(slots=True)
class CheckedFlow:
    """A node of control flow: what holds a body, calls a workflow, or waits for a person.

    `values` are resolved when it starts (`over`, `with`, `carry`, `inputs`, `show`), `settings` are constants.
    """

    id: str
    type: CompiledType
    values: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    body: "Level | None" = None
    when: str | None = None
    needs: dict[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    reads: set[str] = field(default_factory=set)
    on_error: str = "fail"


@dataclass(frozen=True)
class Level:
    """The nodes of a workflow, or of a body, in an order in which they could run; `count` includes those inside."""

    nodes: Mapping[str, CheckedNode | CheckedFlow]
    inputs: Mapping[str, InputPort]
    outputs: Mapping[str, Any]
    count: int = 0


@dataclass(frozen=True)
class Checked:
    """A workflow without mistakes."""

    document: dict[str, Any]
    level: Level
    on_failure: str
    warnings: tuple[Mistake, ...]

    @property
    def nodes(self) -> Mapping[str, CheckedNode | CheckedFlow]:
        """Its own nodes, without those of bodies."""
        return self.level.nodes

    @property
    def inputs(self) -> Mapping[str, InputPort]:
        """What a run may be given."""
        return self.level.inputs

    @property
    def outputs(self) -> Mapping[str, Any]:
        """What a run gives."""
        return self.level.outputs
