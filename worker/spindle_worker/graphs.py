"""Built graphs of tasks, cached by their shape: many tasks of many runs have the same."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from spindle_common.graph import Built, Unit, build

_MOST = 256
_built: "OrderedDict[tuple[Unit, ...], Built]" = OrderedDict()


def graph_of(nodes: Mapping[str, Mapping[str, Any]]) -> Built:
    """Return the compiled LangGraph of a task: a node a workflow node."""
    shape = tuple(Unit(path, tuple(node.get("needs", ())), (path,)) for path, node in nodes.items())
    if shape in _built:
        _built.move_to_end(shape)
        return _built[shape]
    graph = build(shape)
    _built[shape] = graph
    if len(_built) > _MOST:
        _built.popitem(last=False)
    return graph
