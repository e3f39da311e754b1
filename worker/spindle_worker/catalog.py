"""The node types that a worker offers: built-in ones, third parties' by entry point, test nodes when asked for.

A third party's distribution declares, in its pyproject.toml:

    [project.entry-points."spindle.nodes"]
    shout = "my_package.nodes"            # a module: every described function in it; or one function

A file or module of one's own is named by the setting `SPINDLE_NODES` instead.
"""

import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from spindle_common.problems import InvalidRequest
from spindle_worker.node import NodeSpec
from spindle_worker.nodes import builtin_nodes, specs_of

log = logging.getLogger(__name__)
GROUP = "spindle.nodes"


def node_specs(further: Sequence[str] = (), *, test_nodes: bool = False) -> dict[str, NodeSpec]:
    """Every node type by name; `further` are files or modules. What comes later cannot replace what was there.

    Raises:
        InvalidRequest: a file or module cannot be loaded, or describes no node.

    """
    specs = {spec.type: spec for spec in builtin_nodes()}
    if test_nodes:
        from spindle_worker.nodes import test

        _add(specs, "test nodes", specs_of(test))
    for point in entry_points(group=GROUP):
        _add(specs, point.name, _found_in(point.load()))
    for name in further:
        found = list(_found_in(_load(name)))
        if not found:
            raise InvalidRequest(f'{name} describes no node: put @node("family.verb@1") on a function in it')
        _add(specs, name, found)
    return specs


def _add(specs: dict[str, NodeSpec], source: str, found: Iterable[NodeSpec]) -> None:
    for spec in found:
        if spec.type in specs:
            log.error("%s: %s is taken already and left out", source, spec.type)
        else:
            specs[spec.type] = spec


def _load(name: str) -> ModuleType:
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        place = importlib.util.spec_from_file_location(f"spindle_nodes_{Path(name).stem}", name)
        if place is None or place.loader is None:
            raise ImportError(f"cannot load {name}")
        module = importlib.util.module_from_spec(place)
        sys.modules[place.name] = module
        place.loader.exec_module(module)
    except Exception as error:
        raise InvalidRequest(f"the nodes of {name} cannot be loaded: {type(error).__name__}: {error}") from error
    return module


def _found_in(thing: Any) -> Iterable[NodeSpec]:
    candidates = vars(thing).values() if isinstance(thing, ModuleType) else [thing]
    return [c.spec for c in candidates if isinstance(getattr(c, "spec", None), NodeSpec)]


def offered_queue(spec: NodeSpec, *, device: bool) -> str | None:
    """Queue on which this worker runs a type: what wants a GPU goes to `cpu` where there is none."""
    return "cpu" if spec.queue == "gpu" and not device else spec.queue
