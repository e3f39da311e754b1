"""From a checked workflow to its plan: pure data, the same for the same workflow, queues and models.

Node inputs keep their references; model names are pinned to the digests of now, and a model port left out gets the
default model. A task waits for the nodes in `needs`, reads the run inputs in `inputs`, and may start the nodes in
`starts` at once, for they need nothing from inside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from spindle_common.digests import digest
from spindle_common.problems import InvalidWorkflow, mistake
from spindle_control.compiler.catalog import Catalog, CompiledPort
from spindle_control.compiler.checked import Checked, CheckedNode
from spindle_control.compiler.fusion import HandleCrosses, Vertex
from spindle_control.compiler.tasks import Task, fuse


@dataclass(frozen=True)
class PlanTask:
    """Nodes that a worker runs as a unit, by path in an order in which they can run; `id` is the path of the first
    that no other task owns.
    """

    id: str
    queue: str
    nodes: Mapping[str, dict[str, Any]]
    needs: tuple[str, ...]
    inputs: tuple[str, ...]
    starts: tuple[str, ...]
    queue_timeout: float = 0.0
    """Seconds that it may wait for a worker; 0: any time."""


@dataclass(frozen=True)
class Plan:
    """What a run does: its tasks, which tasks hold each node, and what it gives in the end."""

    digest: str
    workflow: dict[str, Any]
    tasks: tuple[PlanTask, ...]
    node_task: Mapping[str, tuple[str, ...]]
    outputs: dict[str, Any]
    on_failure: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Plan":
        """Read what `to_json` wrote, also after a trip through text."""
        tasks = tuple(_task_from(task) for task in document["tasks"])
        node_task = {path: tuple(ids) for path, ids in document["node_task"].items()}
        return cls(**{**document, "tasks": tasks, "node_task": node_task})


def _task_from(document: Mapping[str, Any]) -> PlanTask:
    lists = {key: tuple(document[key]) for key in ("needs", "inputs", "starts")}
    return PlanTask(**{**document, **lists})


def plan(checked: Checked, catalog: Catalog, *, chains: bool = True) -> Plan:
    """Make the plan of a checked workflow; without `chains` only nodes that share handles are fused.

    Raises:
        InvalidWorkflow: a handle would have to leave its worker: the catalog has changed since the check.

    """
    nodes = list(checked.nodes.values())
    try:
        made = fuse(vertices(checked.nodes, catalog), catalog.choose, chains=chains)
    except HandleCrosses as error:
        pointer, detail, hint = crossing(error, checked.nodes)
        raise InvalidWorkflow(detail, errors=[mistake(pointer, "handle-crosses", detail, hint)]) from None
    pins = {node.id: _pinned(node, catalog) for node in nodes}
    bodies = {node.id: _body(node, pins[node.id]) for node in nodes}
    tasks = tuple(_plan_task(task, nodes, bodies) for task in made)
    node_task: dict[str, list[str]] = {node.id: [] for node in nodes}
    for task in tasks:
        for path in task.nodes:
            node_task[path].append(task.id)
    workflow = _normalised(checked, pins)
    types = sorted({node.type.key for node in nodes})
    return Plan(
        digest([workflow, types, [[task.id, task.queue, list(task.nodes)] for task in tasks]]),
        workflow,
        tasks,
        {path: tuple(ids) for path, ids in node_task.items()},
        dict(checked.outputs),
        checked.on_failure,
    )


def vertices(nodes: Mapping[str, CheckedNode], catalog: Catalog) -> list[Vertex]:
    """Return the nodes as fusion sees them, numbered in their order."""
    number = {id_: at for at, id_ in enumerate(nodes)}
    made = []
    for node in nodes.values():
        offered = catalog.queues.get(node.type.name, frozenset())
        made.append(
            Vertex(
                frozenset([node.queue]) if node.queue else offered,
                tuple(number[id_] for id_ in node.needs),
                tuple(number[id_] for id_ in node.handles),
                node.type.deterministic,
            )
        )
    return made


def crossing(error: HandleCrosses, nodes: Mapping[str, CheckedNode]) -> tuple[str, str, str]:
    """Return the pointer, the words and the hint of a handle that cannot stay where it is."""
    ids = list(nodes)
    source, target = ids[error.source], ids[error.target]
    detail = f"the handle that `{source}` gives `{target}` would have to leave its worker: "
    if error.between is None:
        detail += "no queue offers both"
    else:
        detail += f"`{ids[error.between]}`, on the way between nodes that share it, does not run on their queue"
    return nodes[target].handles[source], detail, "give all of them one queue, or decode before and encode after"


def _pinned(node: CheckedNode, catalog: Catalog) -> dict[str, Any]:
    """Return the model ports of a node with the recipes that they get now.

    A node that is handed a handle and names no model uses the one that made the handle, so it gets no default.
    """
    found = {}
    for name, port in node.type.inputs.items():
        if node.handles and name not in node.inputs and not port.required:
            continue
        if port.is_model and (recipe := _recipe(port, node.inputs.get(name), catalog)):
            found[name] = recipe
    return found


def _recipe(port: CompiledPort, value: Any, catalog: Catalog) -> dict[str, Any] | None:
    if value is None:
        name = catalog.default_model
        return None if name is None or name not in catalog.models else catalog.recipe(name)
    if isinstance(value, str):
        return catalog.recipe(value)
    return catalog.recipe(value["model"]) | value if isinstance(value.get("model"), str) else None


def _body(node: CheckedNode, pins: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node as `task.schema.json#/$defs/TaskNode` has it; what is as by default is left out."""
    optional = [name for name, value in node.inputs.items() if name not in pins and _may_be_left_out(node, name, value)]
    said = {
        "inputs": {**node.inputs, **pins},
        "optional": optional,
        "when": node.when,
        "needs": list(node.needs),
        "after": list(node.after),
        "on_error": node.on_error if node.on_error != "fail" else None,
        "timeout": node.timeout,
        "idle": node.idle,
        "max_attempts": node.max_attempts if node.max_attempts != 1 else None,
        "backoff": node.backoff if node.backoff != 1.0 else None,
        "cache": None if node.cache else False,
    }
    return {"type": node.type.name} | {key: value for key, value in said.items() if value not in (None, [], {})}


def _may_be_left_out(node: CheckedNode, name: str, value: Any) -> bool:
    """Whether a port is optional; a literal is never left out, so only what can hold a reference counts."""
    port = node.type.inputs.get(name)
    return type(value) in (dict, list) and port is not None and not port.required


def _plan_task(task: Task, nodes: Sequence[CheckedNode], bodies: Mapping[str, dict[str, Any]]) -> PlanTask:
    members = [nodes[at] for at in task.nodes]
    inside = {node.id for node in members}
    needs = sorted({id_ for node in members for id_ in node.needs if id_ not in inside})
    inputs = sorted({name for node in members for name in node.reads})
    starts = tuple(node.id for node in members if inside.isdisjoint(node.needs))
    own = nodes[task.own[0]].id
    patience = min((node.queue_timeout for node in members if node.queue_timeout is not None), default=0.0)
    inner = {node.id: bodies[node.id] for node in members}
    return PlanTask(own, task.queue, inner, tuple(needs), tuple(inputs), starts, patience)


def _normalised(checked: Checked, pins: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the document with what it left to defaults, and the models as they are pinned."""
    document = {"name": "untitled", "inputs": {}, "outputs": {}, "on_failure": "continue"} | checked.document
    nodes = {}
    for id_, node in checked.document["nodes"].items():
        nodes[id_] = node | {"inputs": node.get("inputs", {}) | pins[id_]} if pins[id_] else node
    return document | {"nodes": nodes}
