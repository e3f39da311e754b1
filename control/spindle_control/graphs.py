"""Built graphs of plans, cached by the plan's digest: building costs more than walking."""

from collections import OrderedDict

from spindle_common.graph import Built, Unit, build
from spindle_control.compiler import Plan

_MOST = 256
_built: "OrderedDict[str, Built]" = OrderedDict()


def graph_of(plan: Plan) -> Built:
    """Return the compiled LangGraph of a plan: a node a task."""
    if plan.digest in _built:
        _built.move_to_end(plan.digest)
        return _built[plan.digest]
    graph = build([Unit(task.id, tuple(task.needs), tuple(task.nodes)) for task in plan.tasks])
    _built[plan.digest] = graph
    if len(_built) > _MOST:
        _built.popitem(last=False)
    return graph
