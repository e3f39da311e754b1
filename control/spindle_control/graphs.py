"""Built graphs of levels, cached by the level's digest: building costs more than walking."""

from collections import OrderedDict

from spindle_common.graph import Built, Unit, build
from spindle_control.compiler import PlanLevel

_MOST = 256
_built: "OrderedDict[str, Built]" = OrderedDict()


def graph_of(level: PlanLevel) -> Built:
    """Return the compiled LangGraph of a level: a node a task, and one for each node of control flow."""
    if level.digest in _built:
        _built.move_to_end(level.digest)
        return _built[level.digest]
    tasks = [Unit(task.id, task.needs, tuple(task.nodes)) for task in level.tasks]
    graph = build([*tasks, *(Unit(flow.id, flow.needs, (flow.id,)) for flow in level.flows)])
    _built[level.digest] = graph
    if len(_built) > _MOST:
        _built.popitem(last=False)
    return graph
