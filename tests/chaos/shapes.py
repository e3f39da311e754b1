"""Documents for the workload: of many shapes, drawn from a seed, each with what it must give.

A node's value is a sum over its inputs, so that an output tells whether every child saw what its parents committed.
"""

import hashlib
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from chaos.nodes import blob

Json = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """A document, its expected end and outputs, what each node reads, and the digests it must write."""

    name: str
    document: Json
    status: str
    outputs: Json | None
    needs: dict[str, list[str]]
    digests: tuple[str, ...] = ()

    def to_json(self) -> Json:
        """As the history keeps it."""
        return {
            "name": self.name,
            "status": self.status,
            "outputs": self.outputs,
            "needs": self.needs,
            "digests": list(self.digests),
        }


class _Draft:
    """A document in the making, and the sum that each node will give."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.nodes: Json = {}
        self.sums: dict[str, int] = {}
        self.needs: dict[str, list[str]] = {}

    def work(self, parents: Iterable[str] = (), seconds: float | None = None, **more: Any) -> str:
        """Add a node that adds one to the sum of its parents."""
        name, parents = f"n{len(self.nodes)}", list(parents)
        terms = [f"{parent}.value" for parent in parents]
        self.sums[name] = 1 + sum(self.sums[parent] for parent in parents)
        inputs: Json = {"value": {"$expr": " + ".join([*terms, "1"])} if parents else 1}
        inputs["seconds"] = self.rng.choice((0, 0, 0.05, 0.2, 0.6)) if seconds is None else seconds
        if "failures" in more:
            inputs["failures"] = more.pop("failures")
        self.nodes[name] = {"type": "chaos.work@1", "inputs": inputs, **more}
        self.needs[name] = parents
        return name

    def shape(self, name: str, last: str, status: str = "completed", digests: Iterable[str] = ()) -> Shape:
        """Finish: the run gives the last node's sum."""
        outputs = {"sum": self.sums[last]} if status == "completed" else None
        document = workflow(self.nodes, {"sum": {"$from": f"{last}.value"}})
        return Shape(name, document, status, outputs, self.needs, tuple(digests))


def workflow(nodes: Json, outputs: Json | None = None, **more: Any) -> Json:
    """Build a document around nodes."""
    return {"schema": "spindle.workflow/v1", "name": "chaos", "nodes": nodes, "outputs": outputs or {}, **more}


def chain(rng: random.Random) -> Shape:
    """One after another; fused where the control fuses."""
    draft = _Draft(rng)
    last = draft.work()
    for _ in range(rng.randint(1, 6)):
        last = draft.work([last])
    return draft.shape("chain", last)


def fan(rng: random.Random) -> Shape:
    """One, many beside each other, one that joins them."""
    draft = _Draft(rng)
    first = draft.work()
    middle = [draft.work([first]) for _ in range(rng.randint(2, 10))]
    return draft.shape("fan", draft.work(middle))


def diamonds(rng: random.Random) -> Shape:
    """Diamonds in a row, with legs of unlike length."""
    draft = _Draft(rng)
    last = draft.work()
    for _ in range(rng.randint(1, 3)):
        left = draft.work([last])
        right = draft.work([draft.work([last])])
        last = draft.work([left, right])
    return draft.shape("diamonds", last)


def tangle(rng: random.Random) -> Shape:
    """Any graph without a circle."""
    draft = _Draft(rng)
    names: list[str] = []
    for _ in range(rng.randint(4, 10)):
        names.append(draft.work(rng.sample(names, min(len(names), rng.randint(0, 3)))))
    open_ends = [name for name in names if not any(name in needs for needs in draft.needs.values())]
    return draft.shape("tangle", draft.work(open_ends))


def flaky(rng: random.Random) -> Shape:
    """A node that fails once or twice and is tried again."""
    draft = _Draft(rng)
    retry = {"max_attempts": 8, "backoff": "200ms"}
    middle = draft.work([draft.work()], failures=rng.randint(1, 2), retry=retry)
    return draft.shape("flaky", draft.work([middle]))


def failing(rng: random.Random) -> Shape:
    """A node that never succeeds: the run fails, its siblings end."""
    draft = _Draft(rng)
    first = draft.work()
    bad = draft.work([first], failures=1000, retry={"max_attempts": 2, "backoff": "100ms"})
    draft.work([first])
    return draft.shape("failing", draft.work([bad]), "failed")


def forgiven(rng: random.Random) -> Shape:
    """A failure that counts as a skip, and what stands in for it."""
    draft = _Draft(rng)
    bad = draft.work(failures=1000, on_error="skip")
    good = draft.work()
    name = draft.work([good])
    draft.nodes[name]["inputs"]["value"] = {"$first": [{"$from": f"{bad}.value"}, {"$from": f"{good}.value"}]}
    draft.needs[name] = [bad, good]
    draft.sums[name] = draft.sums[good]
    return draft.shape("forgiven", name)


def conditional(rng: random.Random) -> Shape:
    """A branch taken, a branch not taken."""
    draft = _Draft(rng)
    first = draft.work()
    taken = draft.work([first], when=f"{first}.value == 1")
    draft.work([draft.work([first], when=f"{first}.value == 2")])
    return draft.shape("conditional", draft.work([taken]))


def files(rng: random.Random) -> Shape:
    """Artifacts written, and one read back."""
    draft = _Draft(rng)
    digests = []
    last = draft.work()
    for _ in range(rng.randint(1, 3)):
        seed, size = rng.getrandbits(32), rng.choice((1, 1000, 100_000))
        digests.append("sha256:" + hashlib.sha256(blob(seed, size)).hexdigest())
        writer = f"n{len(draft.nodes)}"
        draft.nodes[writer] = {
            "type": "chaos.write@1",
            "inputs": {"seed": seed, "size": size, "in0": {"$from": f"{last}.value"}},
        }
        draft.needs[writer] = [last]
    reader = f"n{len(draft.nodes)}"
    draft.nodes[reader] = {"type": "chaos.read@1", "inputs": {"file": {"$from": f"{writer}.file"}}}
    draft.needs[reader] = [writer]
    document = workflow(draft.nodes, {"digest": {"$from": f"{reader}.value"}})
    return Shape("files", document, "completed", {"digest": digests[-1]}, draft.needs, tuple(digests))


def sleeper(rng: random.Random) -> Shape:
    """Long enough to be met by a fault or a cancel."""
    draft = _Draft(rng)
    slow = draft.work(seconds=rng.uniform(1.0, 4.0))
    return draft.shape("sleeper", draft.work([slow, draft.work()]))


KINDS: dict[Callable[[random.Random], Shape], int] = {
    chain: 5,
    fan: 4,
    diamonds: 3,
    tangle: 3,
    flaky: 3,
    failing: 2,
    forgiven: 2,
    conditional: 3,
    files: 4,
    sleeper: 4,
}


def draw(rng: random.Random) -> Shape:
    """Draw a document."""
    (kind,) = rng.choices(list(KINDS), list(KINDS.values()))
    return kind(rng)
