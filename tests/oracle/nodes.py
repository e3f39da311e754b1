"""The nodes of which random workflows are made: pure, so that anyone can say what they give.

sum     one more than the whole numbers in its inputs, at any depth     picky   the same; fails where 3 divides that
list    up to three numbers                                             shaky   the same; fails as its path says

Their names' first part says where they run.
"""

from typing import Any

from spindle_control.compiler import Catalog
from support.compiler_catalog import catalog, node_type, value

QUEUES = {
    "cpu": frozenset({"cpu"}),
    "gpu": frozenset({"gpu"}),
    "both": frozenset({"cpu", "gpu"}),
    "light": frozenset[str](),
}
_NUMBER, _NUMBERS = {"value": value(type="integer")}, {"items": value(type="array", items={"type": "integer"})}
_KINDS = {"sum": _NUMBER, "picky": _NUMBER, "shaky": _NUMBER, "list": _NUMBERS}


class PickyError(Exception):
    """The node fails, as it must."""


def oracle_catalog() -> Catalog:
    """Return the node types on their queues."""
    types = {
        f"{where}.{kind}@1": node_type(f"{where}.{kind}@1", {}, outputs, open_inputs="^in[0-9]+$")
        for where in QUEUES
        for kind, outputs in _KINDS.items()
    }
    queues = {name: QUEUES[name.partition(".")[0]] for name in types}
    return catalog(types=types, queues=queues, models={}, default_model=None)


def compute(type_: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return a node's outputs. Raises PickyError."""
    kind = type_.partition(".")[2].partition("@")[0]
    total = _total(inputs) % 1000
    if kind == "list":
        return {"items": [(total + at) % 10 for at in range(total % 4)]}
    if kind == "picky" and total % 3 == 0:
        raise PickyError
    return {"value": total + 1}


def trips_of(type_: str, path: str) -> int:
    """How many tries of a node fail before one can succeed."""
    return sum(path.encode()) % 4 if ".shaky@" in type_ else 0


def _total(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, (int, list, dict)):
        return 0
    if isinstance(given, int):
        return given
    return sum(_total(each) for each in (given.values() if isinstance(given, dict) else given))


def answer_to(path: str) -> int:
    """What the person says who is asked by the node at a path."""
    return sum(path.encode()) % 10
