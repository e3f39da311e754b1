"""The node types that a worker offers: built-in ones, third parties' by entry point, test nodes when asked for.

A third party's distribution declares, in its pyproject.toml:

    [project.entry-points."spindle.nodes"]
    shout = "my_package.nodes"            # a module: every described function in it; or one function
"""

import logging
from collections.abc import Iterable
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from spindle_worker.node import NodeSpec
from spindle_worker.nodes import builtin_nodes

log = logging.getLogger(__name__)
GROUP = "spindle.nodes"


def node_specs(*, test_nodes: bool = False) -> dict[str, NodeSpec]:
    """Every node type by name; a third party cannot replace a built-in one."""
    specs = {spec.type: spec for spec in builtin_nodes()}
    if test_nodes:
        from spindle_worker.nodes import test

        specs |= {spec.type: spec for spec in test.SPECS}
    for point in entry_points(group=GROUP):
        for spec in _found_in(point.load()):
            if spec.type in specs:
                log.error("%s: %s is taken already and left out", point.name, spec.type)
            else:
                specs[spec.type] = spec
    return specs


def _found_in(thing: Any) -> Iterable[NodeSpec]:
    candidates = vars(thing).values() if isinstance(thing, ModuleType) else [thing]
    return [c.spec for c in candidates if isinstance(getattr(c, "spec", None), NodeSpec)]


def offered_queue(spec: NodeSpec, *, device: bool) -> str | None:
    """Queue on which this worker runs a type: what wants a GPU goes to `cpu` where there is none."""
    return "cpu" if spec.queue == "gpu" and not device else spec.queue
