"""What a run may take over from the one that it repeats: pure, from two documents and a ledger.

    node    written alike, reads inputs that did not change, needs only nodes that are taken over -> its result
    flow    the same, what it runs included -> its result; else what did complete inside it, item by item, as long
            as what it gives its body did not change

Whatever else there is runs again, and with it all that needs it. Nodes that were skipped because of `when`, or for want
of an input that was skipped, are skipped again if nothing has changed for them. How a node is run (`retry`, `timeout`,
`queue`, `cache`, `concurrency`) and called (`title`) changes nothing about what it gives.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from spindle_common.seeds import draw_seed
from spindle_common.values import INPUT_SKIPPED, WHEN_FALSE, Outcome, references
from spindle_control.compiler import CheckedFlow, CheckedNode
from spindle_control.compiler.checked import Level
from spindle_control.paths import Nodes, order
from spindle_control.rows import Json

_HOW = frozenset({"title", "retry", "timeout", "queue", "cache", "concurrency"})
_STEP = re.compile(r"\[|\.")


@dataclass(frozen=True)
class Before:
    """The run that is repeated: its nodes, what came of them, and by whose id its seeds were drawn."""

    nodes: Nodes
    outcomes: Mapping[str, Outcome]
    seeds: str


@dataclass(frozen=True)
class After:
    """The run to be: its nodes as written and as checked, inputs that changed, and nodes that shall run again."""

    nodes: Nodes
    level: Level
    changed: frozenset[str]
    forced: Collection[str]


@dataclass
class Shares:
    """What is taken over, what runs, and what is skipped as it was; by path."""

    reuse: list[str] = field(default_factory=list)
    run: list[str] = field(default_factory=list)
    skip: list[str] = field(default_factory=list)

    def to_json(self) -> Json:
        """Return it in the paths' own order."""
        return {name: sorted(getattr(self, name), key=order) for name in ("reuse", "run", "skip")}


def share(before: Before, after: After) -> Shares:
    """Decide for every node of the new run."""
    sharing = _Sharing(before, after)
    sharing.level(_Pair("", before.nodes.level("") or {}, after.nodes.level("") or {}, after.level, after.changed))
    return sharing.shares


@dataclass(frozen=True)
class _Pair:
    """A level of both documents, at a prefix; `changed` are its inputs that have another value now."""

    prefix: str
    old: Json
    new: Json
    checked: Level
    changed: frozenset[str]


class _Sharing:
    def __init__(self, before: Before, after: After) -> None:
        self._before, self._after = before, after
        self.shares = Shares()
        self._forced = frozenset(after.forced)
        self._above = {path[: step.start()] for path in self._forced for step in _STEP.finditer(path)}
        self._instances = _instances(before.outcomes)
        self._alike: dict[tuple[int, int], bool] = {}

    def level(self, pair: _Pair) -> None:
        """Decide the nodes of a level in an order in which they could run."""
        again: set[str] = set()
        for id_, checked in pair.checked.nodes.items():
            path, new, old = pair.prefix + id_, pair.new["nodes"][id_], pair.old.get("nodes", {}).get(id_)
            fed = not checked.reads & pair.changed and again.isdisjoint(checked.needs) and path not in self._forced
            same = fed and old is not None and path not in self._above and self._same(path, old, new, checked)
            if not self._decided(path, same=same):
                again.add(id_)
                if isinstance(checked, CheckedFlow) and old is not None and path not in self._forced:
                    self._inside(path, _Flow(old, new, checked), again, pair.changed)

    def _decided(self, path: str, *, same: bool) -> bool:
        """Whether a node's outcome stands; notes what becomes of it."""
        outcome = self._before.outcomes.get(path, {}) if same else {}
        if outcome.get("status") == "completed":
            self.shares.reuse.append(path)
        elif outcome.get("status") == "skipped" and outcome.get("reason") in (WHEN_FALSE, INPUT_SKIPPED):
            self.shares.skip.append(path)
        else:
            self.shares.run.append(path)
            return False
        return True

    def _same(self, path: str, old: Json, new: Json, checked: CheckedNode | CheckedFlow) -> bool:
        drawn = draw_seed(self._before.seeds, path) if "seed" in checked.type.inputs else None
        return _definition(old, drawn) == _definition(new, drawn)

    # Inside flows ----------------------------------------------------------------------------------------------------

    def _inside(self, path: str, flow: "_Flow", again: Collection[str], changed: Collection[str]) -> None:
        """Keep what completed inside a flow that runs again, as far as its body gets the same."""
        old, new = self._before.nodes.inside(flow.old), self._after.nodes.inside(flow.new)
        level = flow.checked.body
        if old is None or new is None or level is None or flow.old.get("type") != flow.new.get("type"):
            return
        given = frozenset(_changed_inputs(flow, old, new, again, changed))
        kind = flow.new["type"]
        if kind == "flow.call@1":
            self.level(_Pair(f"{path}.", old, new, level, given))
        elif "over" not in given:
            alike = not given and self._bodies_alike(old, new) and flow.old.get("until") == flow.new.get("until")
            for index in sorted(self._instances.get(path, ())):
                whole = self._instance(_Pair(f"{path}[{index}]", old, new, level, given), alike=alike)
                if kind == "flow.loop@1" and not whole:  # the next one gets something else
                    break

    def _instance(self, pair: _Pair, *, alike: bool) -> bool:
        """Keep an instance as a whole, or what can be kept of it."""
        path = pair.prefix
        free = path not in self._forced and path not in self._above
        if alike and free and self._before.outcomes.get(path, {}).get("status") == "completed":
            self.shares.reuse.append(path)
            return True
        self.shares.run.append(path)
        if path not in self._forced:
            self.level(_Pair(f"{path}.", pair.old, pair.new, pair.checked, pair.changed))
        return False

    def _bodies_alike(self, old: Json, new: Json) -> bool:
        key = (id(old), id(new))
        if key not in self._alike:
            self._alike[key] = _text(_body(old)) == _text(_body(new))
        return self._alike[key]


@dataclass(frozen=True)
class _Flow:
    """A node of control flow in both documents."""

    old: Json
    new: Json
    checked: CheckedFlow


def _changed_inputs(
    flow: _Flow, old: Json, new: Json, again: Collection[str], changed: Collection[str]
) -> Iterator[str]:
    """Yield the inputs of a flow's body that may have other values now; `over` stands for every item."""
    for name in {*old.get("inputs", {}), *new.get("inputs", {})}:
        if _text(old.get("inputs", {}).get(name)) != _text(new.get("inputs", {}).get(name)):
            yield name
    if "over" in flow.new and _differs(flow.old.get("over"), flow.new["over"], again, changed):
        yield "over"
    for key in ("with", "carry", "inputs"):
        before, after = flow.old.get(key, {}), flow.new.get(key, {})
        for name in {*before, *after}:
            if name not in before or name not in after or _differs(before[name], after[name], again, changed):
                yield name


def _differs(old: Any, new: Any, again: Collection[str], changed: Collection[str]) -> bool:
    """Whether a value is written otherwise, or refers to what runs again or to an input that changed."""
    if _text(old) != _text(new):
        return True
    for dotted in references(new):
        owner, _, rest = dotted.partition(".")
        if owner in again or (owner == "inputs" and rest.partition(".")[0] in changed):
            return True
    return False


def _definition(node: Json, drawn: int | None) -> str:
    """What a node gives depends on this; `drawn` is the seed that it gets if it has none."""
    plain = {key: value for key, value in _plain(node).items() if key != "on_error"}
    if drawn is not None and "seed" not in plain.get("inputs", {}):
        plain["inputs"] = {**plain.get("inputs", {}), "seed": drawn}
    return _text(plain)


def _plain(node: Json) -> Json:
    plain = {key: value for key, value in node.items() if key not in _HOW and value not in ({}, [])}
    return plain | {"body": _body(node["body"])} if "body" in node else plain


def _body(body: Json) -> Json:
    kept = {key: value for key, value in body.items() if key in ("inputs", "outputs") and value != {}}
    return kept | {"nodes": {id_: _plain(node) for id_, node in body.get("nodes", {}).items()}}


def _text(value: Any) -> str:
    """Equal for equal JSON only: in Python 1 is True."""
    return json.dumps(value, sort_keys=True)


def _instances(outcomes: Mapping[str, Outcome]) -> dict[str, set[int]]:
    """The numbers of the instances of each flow of which anything is known."""
    found: dict[str, set[int]] = {}
    for path in outcomes:
        for bracket in re.finditer(r"\[([0-9]+)\]", path):
            found.setdefault(path[: bracket.start()], set()).add(int(bracket[1]))
    return found
