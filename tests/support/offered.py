"""What one worker with the built-in node types offers, as the compiler is told it."""

from spindle_common.contracts import ModelInfo
from spindle_control.compiler import Catalog
from spindle_worker.nodes import builtin_nodes


def offered(*models: str) -> Catalog:
    """Every built-in type, on the queues of a worker with a GPU."""
    specs = builtin_nodes()
    return Catalog(
        {spec.type: spec.node_type(spec.queue) for spec in specs},
        {spec.type: frozenset({spec.queue} if spec.queue else ()) for spec in specs},
        frozenset({"gpu", "cpu", "async"}),
        {name: ModelInfo(name=name, digest="sha256:" + "1" * 64) for name in models},
        models[0] if models else None,
    )
