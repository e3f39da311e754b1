"""From a checked workflow to its plan: pure data, the same for the same workflow, queues and models.

Node inputs keep their references; model names are pinned to the digests of now, and a model port left out gets the
default model. A task waits for the nodes in `needs`, reads the run inputs in `inputs`, and may start the nodes in
`starts` at once, for they need nothing from inside it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from spindle_common.digests import digest
from spindle_common.problems import InvalidWorkflow, mistake
from spindle_control.compiler.catalog import Catalog, CompiledPort
from spindle_control.compiler.checked import MISSING, Checked, CheckedFlow, CheckedNode, InputPort, Level
from spindle_control.compiler.fusion import HandleCrosses, Vertex
from spindle_control.compiler.tasks import Task, fuse


@dataclass(frozen=True)
class PlanTask:
    """Nodes that a worker runs as a unit, by id in an order in which they can run; `id` is that of the first that no
    other task owns.
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
class PlanFlow:
    """A node of control flow. `node` has what decides whether it runs and what it is given, as a `TaskNode` has it."""

    id: str
    node: dict[str, Any]
    settings: dict[str, Any]
    needs: tuple[str, ...]
    body: "PlanLevel | None" = None

    @property
    def kind(self) -> str:
        """Its type, such as `flow.map@1`."""
        return str(self.settings["kind"])


@dataclass(frozen=True)
class PlanLevel:
    """What is walked: a workflow, or a body. `seeded` are nodes that take a seed and were given none; `inputs` are a
    body's: `schema`, `optional` and perhaps `default` of each. (A run's own are bound when it is accepted.)
    """

    digest: str
    tasks: tuple[PlanTask, ...]
    flows: tuple[PlanFlow, ...]
    node_task: Mapping[str, tuple[str, ...]]
    outputs: dict[str, Any]
    seeded: tuple[str, ...]
    inputs: dict[str, dict[str, Any]]

    @cached_property
    def units(self) -> Mapping[str, PlanTask | PlanFlow]:
        """Tasks and flows by id."""
        tasks: dict[str, PlanTask | PlanFlow] = {task.id: task for task in self.tasks}
        return tasks | {flow.id: flow for flow in self.flows}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "PlanLevel":
        """Read what `to_json` wrote, also after a trip through text."""
        return PlanLevel(**_level_from(document))


@dataclass(frozen=True)
class Plan:
    """What a run does: its level with those inside, and what it gives in the end."""

    digest: str
    workflow: dict[str, Any]
    level: PlanLevel
    on_failure: str

    @property
    def tasks(self) -> tuple[PlanTask, ...]:
        """The tasks of the workflow itself."""
        return self.level.tasks

    @property
    def node_task(self) -> Mapping[str, tuple[str, ...]]:
        """Which tasks hold each node; a node of control flow stands for itself."""
        return self.level.node_task

    @property
    def outputs(self) -> dict[str, Any]:
        """What the run gives."""
        return self.level.outputs

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Plan":
        """Read what `to_json` wrote, also after a trip through text."""
        return cls(**{**document, "level": PlanLevel.from_json(document["level"])})


def _level_from(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **document,
        "tasks": tuple(_task_from(task) for task in document["tasks"]),
        "flows": tuple(_flow_from(flow) for flow in document["flows"]),
        "node_task": {path: tuple(ids) for path, ids in document["node_task"].items()},
        "seeded": tuple(document["seeded"]),
    }


def _task_from(document: Mapping[str, Any]) -> PlanTask:
    lists = {key: tuple(document[key]) for key in ("needs", "inputs", "starts")}
    return PlanTask(**{**document, **lists})


def _flow_from(document: Mapping[str, Any]) -> PlanFlow:
    body = document["body"] and PlanLevel.from_json(document["body"])
    return PlanFlow(**{**document, "needs": tuple(document["needs"]), "body": body})


def plan(checked: Checked, catalog: Catalog, *, chains: bool = True) -> Plan:
    """Make the plan of a checked workflow; without `chains` only nodes that share handles are fused.

    Raises:
        InvalidWorkflow: a handle would have to leave its worker: the catalog has changed since the check.

    """
    level = replace(_plan_level(checked.level, catalog, chains=chains), inputs={})
    workflow = _normalised(checked, level)
    types = sorted(set(_keys(checked.level)))
    return Plan(digest([workflow, types, level.digest]), workflow, level, checked.on_failure)


def _keys(level: Level) -> Iterator[str]:
    for node in level.nodes.values():
        if isinstance(node, CheckedNode):
            yield node.type.key
        elif node.body is not None:
            yield from _keys(node.body)


def _plan_level(level: Level, catalog: Catalog, *, chains: bool) -> PlanLevel:
    nodes = list(level.nodes.values())
    try:
        made = fuse(vertices(level.nodes, catalog), catalog.choose, chains=chains)
    except HandleCrosses as error:
        pointer, detail, hint = crossing(error, level.nodes)
        raise InvalidWorkflow(detail, errors=[mistake(pointer, "handle-crosses", detail, hint)]) from None
    bodies = {node.id: _body(node, _pinned(node, catalog)) for node in nodes if isinstance(node, CheckedNode)}
    tasks = tuple(_plan_task(task, nodes, bodies) for task in made if not isinstance(nodes[task.own[0]], CheckedFlow))
    flows = tuple(_plan_flow(node, catalog, chains=chains) for node in nodes if isinstance(node, CheckedFlow))
    node_task: dict[str, list[str]] = {node.id: [] for node in nodes}
    for task in tasks:
        for id_ in task.nodes:
            node_task[id_].append(task.id)
    for flow in flows:
        node_task[flow.id].append(flow.id)
    return PlanLevel(
        digest(
            [[task.id, task.queue, list(task.nodes), list(task.needs)] for task in tasks]
            + [[f.id, list(f.needs)] for f in flows]
        ),
        tasks,
        flows,
        {id_: tuple(ids) for id_, ids in node_task.items()},
        dict(level.outputs),
        tuple(n.id for n in nodes if isinstance(n, CheckedNode) and "seed" in n.type.inputs and "seed" not in n.inputs),
        {name: _input(port) for name, port in level.inputs.items()},
    )


def _input(port: InputPort) -> dict[str, Any]:
    said = {"schema": port.schema, "optional": port.optional}
    return said if port.default is MISSING else said | {"default": port.default}


def _plan_flow(flow: CheckedFlow, catalog: Catalog, *, chains: bool) -> PlanFlow:
    values = dict(_flat(flow.values))
    optional = [name for name in values if _is_spare(flow, name)]
    said = {
        "inputs": values,
        "optional": optional,
        "when": flow.when,
        "needs": list(flow.needs),
        "after": list(flow.after),
        "on_error": flow.on_error if flow.on_error != "fail" else None,
    }
    node = {"type": flow.type.name} | {key: value for key, value in said.items() if value not in (None, [], {})}
    body = None if flow.body is None else _plan_level(flow.body, catalog, chains=chains)
    return PlanFlow(flow.id, node, flow.settings, tuple(flow.needs), body)


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each value that a flow is given by its key, and by its name below it: `over`, `with.prompt`."""
    for key, value in values.items():
        if key == "over":
            yield key, value
        else:
            yield from ((f"{key}.{name}", inner) for name, inner in value.items())


def _is_spare(flow: CheckedFlow, name: str) -> bool:
    """Whether what is given under a name may be left out: its reference was skipped."""
    key, _, inner = name.partition(".")
    if key == "show":
        return True
    port = flow.body.inputs.get(inner) if flow.body and key != "over" else None
    return port is not None and not port.required


def vertices(nodes: Mapping[str, CheckedNode | CheckedFlow], catalog: Catalog) -> list[Vertex]:
    """Return the nodes as fusion sees them, numbered in their order."""
    number = {id_: at for at, id_ in enumerate(nodes)}
    made = []
    for node in nodes.values():
        if isinstance(node, CheckedFlow):  # a queue of its own keeps it apart
            made.append(Vertex(frozenset([f"flow {node.id}"]), tuple(number[id_] for id_ in node.needs), flow=True))
            continue
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


def crossing(error: HandleCrosses, nodes: Mapping[str, CheckedNode | CheckedFlow]) -> tuple[str, str, str]:
    """Return the pointer, the words and the hint of a handle that cannot stay where it is."""
    ids = list(nodes)
    source, target = ids[error.source], ids[error.target]
    detail = f"the handle that `{source}` gives `{target}` would have to leave its worker: "
    if error.between is None:
        detail += "no queue offers both"
    else:
        detail += f"`{ids[error.between]}`, on the way between nodes that share it, does not run on their queue"
    reader = nodes[target]
    where = reader.handles[source] if isinstance(reader, CheckedNode) else ""
    return where, detail, "give all of them one queue, or decode before and encode after"


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


def _plan_task(
    task: Task, nodes: Sequence[CheckedNode | CheckedFlow], bodies: Mapping[str, dict[str, Any]]
) -> PlanTask:
    members = [node for at in task.nodes if isinstance(node := nodes[at], CheckedNode)]
    inside = {node.id for node in members}
    needs = sorted({id_ for node in members for id_ in node.needs if id_ not in inside})
    inputs = sorted({name for node in members for name in node.reads})
    starts = tuple(node.id for node in members if inside.isdisjoint(node.needs))
    own = nodes[task.own[0]].id
    patience = min((node.queue_timeout for node in members if node.queue_timeout is not None), default=0.0)
    inner = {node.id: bodies[node.id] for node in members}
    return PlanTask(own, task.queue, inner, tuple(needs), tuple(inputs), starts, patience)


def _normalised(checked: Checked, level: PlanLevel) -> dict[str, Any]:
    """Return the document with what it left to defaults, and the models as they are pinned."""
    document = {"name": "untitled", "inputs": {}, "outputs": {}, "on_failure": "continue"} | checked.document
    return document | {"nodes": _with_pins(checked.document["nodes"], checked.level, level)}


def _with_pins(written: Mapping[str, Any], checked: Level, level: PlanLevel) -> dict[str, Any]:
    """Return nodes as they were written, with the models that tasks will get, those of bodies too."""
    planned = {id_: node["inputs"] for task in level.tasks for id_, node in task.nodes.items() if "inputs" in node}
    bodies = {flow.id: flow.body for flow in level.flows}
    nodes = {}
    for id_, node in written.items():
        found = checked.nodes[id_]
        if isinstance(found, CheckedNode):
            pins = {
                name: planned[id_][name]
                for name, port in found.type.inputs.items()
                if port.is_model and name in planned.get(id_, {})
            }
            nodes[id_] = node | {"inputs": node.get("inputs", {}) | pins} if pins else node
        elif "body" in node and found.body is not None and (inner := bodies[id_]) is not None:
            nodes[id_] = node | {"body": node["body"] | {"nodes": _with_pins(node["body"]["nodes"], found.body, inner)}}
        else:
            nodes[id_] = node
    return nodes
