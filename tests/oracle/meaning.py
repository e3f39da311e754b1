"""The oracle: what a workflow comes to, said of the document itself, without planner, driver, worker or Redis.

    meaning(document, inputs, library)          -> ends by path, status and outputs of the run
    meaning(…, held="vars[0].n3")               the same, were that node never to end: `ends` has what still can

Construct by construct, as design.md, section 3 has it. Evaluated lazily and in whatever order: no scheduler here.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from oracle.nodes import PickyError, answer_to, compute, trips_of

Json = dict[str, Any]
_REFERENCE = re.compile(r"\b[a-z]\w*\.[a-z]\w*\b")
_ASKED = re.compile(r"\bhas\(([a-z]\w*\.[a-z]\w*)\)")


class End(NamedTuple):
    """How a node ended."""

    status: str
    outputs: Json
    reason: str | None = None

    @property
    def blocks(self) -> bool:
        """Whether it failed, or could not run because something failed."""
        return self.status == "failed" or self.reason == "upstream-failed"


class SkippedError(Exception):
    """Something referred to was skipped."""


class BlockedError(Exception):
    """Something referred to failed."""


class NeverError(Exception):
    """Something waits for what never ends."""


class WrongError(Exception):
    """A value does not fit: the node fails."""


@dataclass
class Meaning:
    """What comes of a run; paths in `perhaps` need not be reached, for something beside them fails."""

    ends: dict[str, End] = field(default_factory=dict)
    perhaps: set[str] = field(default_factory=set)
    status: str = ""
    outputs: Json = field(default_factory=dict)


def meaning(document: Json, inputs: Json, library: Mapping[str, Json], held: str | None = None) -> Meaning:
    """Return what a workflow comes to."""
    found = Meaning()
    given = _bound(document.get("inputs", {}), inputs)
    level = _Level(document, given, "", _Around(found, library, held))
    ended = level.all()
    failed = any(end is not None and end.status == "failed" for end in ended.values())
    found.status = "failed" if failed else "completed"
    found.outputs = {} if failed or None in ended.values() else level.outputs()
    if document.get("on_failure") == "stop" and failed:
        found.perhaps |= found.ends.keys()
    return found


class _Around(NamedTuple):
    found: Meaning
    library: Mapping[str, Json]
    held: str | None


class _Level:
    """A workflow or a body with its inputs; nodes are computed when they are asked for."""

    def __init__(self, document: Json, inputs: Json, prefix: str, around: _Around) -> None:
        self.document, self.inputs, self.prefix, self.around = document, inputs, prefix, around
        self._ends: dict[str, End | None] = {}

    def all(self) -> dict[str, End | None]:
        """Return the ends of all nodes; None for those that never end."""
        for id_ in self.document["nodes"]:
            self.end(id_)
        return self._ends

    def end(self, id_: str) -> End | None:
        """How a node ends."""
        if id_ not in self._ends:
            try:
                found = self._computed(id_, self.document["nodes"][id_])
                self.around.found.ends[self.prefix + id_] = found
                self._ends[id_] = found
            except NeverError:
                self._ends[id_] = None
        return self._ends[id_]

    def _computed(self, id_: str, node: Json) -> End:
        needs = needs_of(node)
        if any(self.end(need) is None for need in needs) or self.prefix + id_ == self.around.held:
            raise NeverError
        if any(end is not None and end.blocks for end in map(self.end, node.get("after", ()))):
            return End("skipped", {}, "upstream-failed")
        try:
            if "when" in node and not self.expression(node["when"]):
                return End("skipped", {}, "when-false")
            return End("completed", self._outputs(id_, node))
        except SkippedError:
            return End("skipped", {}, "input-skipped")
        except BlockedError:
            return End("skipped", {}, "upstream-failed")
        except (PickyError, WrongError):
            return End("skipped", {}, "error") if node.get("on_error") == "skip" else End("failed", {})

    def _outputs(self, id_: str, node: Json) -> Json:
        match node["type"]:
            case "flow.map@1":
                return self._map(id_, node)
            case "flow.loop@1":
                return self._loop(id_, node)
            case "flow.call@1":
                called = self.around.library[node["workflow_ref"]]
                return self._inside(called, _bound(called["inputs"], self._given(node, "inputs", called)), id_)
            case "flow.approve@1":
                for said in node.get("show", {}).values():
                    with contextlib.suppress(SkippedError):
                        self.value(said)
                return {"answer": answer_to(self.prefix + id_), "answered": True}
        found = {port: self.value(given) for port, given in node.get("inputs", {}).items()}
        if trips_of(node["type"], self.prefix + id_) >= node.get("retry", {}).get("max_attempts", 1):
            raise PickyError
        return compute(node["type"], found)

    # Flows ---------------------------------------------------------------------------------------------------------

    def _given(self, node: Json, key: str, body: Json) -> Json:
        """What a body is given; what was skipped is left out where the body can do without."""
        found = {}
        for name, said in node.get(key, {}).items():
            spec = body["inputs"][name]
            try:
                found[name] = self.value(said)
            except SkippedError:
                if "default" not in spec and not spec.get("optional"):
                    raise
        return found

    def _inside(self, body: Json, inputs: Json, name: str) -> Json:
        level = _Level(body, inputs, f"{self.prefix}{name}.", self.around)
        ended = level.all()
        if None in ended.values():
            raise NeverError
        if any(end is not None and end.status == "failed" for end in ended.values()):
            raise WrongError
        return level.outputs()

    def _instance(self, body: Json, inputs: Json, name: str) -> End:
        try:
            end = End("completed", self._inside(body, inputs, name))
        except WrongError:
            end = End("failed", {})
        self.around.found.ends[self.prefix + name] = end
        return end

    def _map(self, id_: str, node: Json) -> Json:
        items, body = self.value(node["over"]), node["body"]
        given = _bound(body["inputs"], self._given(node, "with", body), but=("item", "index"))
        ends: list[End | None] = []
        for index, item in enumerate(items):
            if ends.count(None) >= node.get("concurrency", 16):
                raise NeverError  # each place in the window is taken for ever
            try:
                inputs = given | _bound(body["inputs"], {"item": item, "index": index}, only=("item", "index"))
                ends.append(self._instance(body, inputs, f"{id_}[{index}]"))
            except WrongError:
                ends.append(End("failed", {}))
                self.around.found.ends[f"{self.prefix}{id_}[{index}]"] = End("failed", {})
            except NeverError:
                ends.append(None)
        known = [end for end in ends if end is not None]
        failed = any(end.status == "failed" for end in known)
        rule = node.get("on_item_error", "fail")
        if failed and rule == "fail":
            inside = f"{self.prefix}{id_}["
            self.around.found.perhaps |= {path for path in self.around.found.ends if path.startswith(inside)}
        if len(known) < len(ends):
            raise NeverError
        if failed and rule == "fail":
            raise WrongError
        kept = [end for end in known if rule == "null" or end.status == "completed"]
        return {name: [end.outputs.get(name) for end in kept] for name in body["outputs"]}

    def _loop(self, id_: str, node: Json) -> Json:
        body = node["body"]
        carry = {name: self.value(said) for name, said in node.get("carry", {}).items()}
        given = _bound(body["inputs"], self._given(node, "with", body), but=("index", *carry))
        outputs, index, reached = dict[str, Any](), 0, False
        while index < node["max_iterations"] and not reached:
            inputs = given | _bound(body["inputs"], {**carry, "index": index}, only=("index", *carry))
            end = self._instance(body, inputs, f"{id_}[{index}]")
            if end.status == "failed":
                raise WrongError
            outputs, index = end.outputs, index + 1
            carry |= {name: outputs[name] for name in carry if name in outputs}
            reached = "until" in node and _Until(self, body, inputs, f"{id_}[{index - 1}]").holds(node["until"])
        return {**outputs, "iterations": index, "reached": reached}

    # Values --------------------------------------------------------------------------------------------------------

    def outputs(self) -> Json:
        """What the level gives: all but what was skipped or failed."""
        found = {}
        for name, said in self.document.get("outputs", {}).items():
            try:
                found[name] = self.value(said)
            except (SkippedError, BlockedError):
                continue
        return found

    def value(self, said: Any) -> Any:
        """What stands for a value."""
        match said:
            case {"$from": reference}:
                return self.look_up(reference)
            case {"$expr": text}:
                return self.expression(text)
            case {"$first": [*references]}:
                found = self._present(references)
                if not found:
                    raise SkippedError
                return found[0]
            case {"$present": [*references]}:
                return self._present(references, every=True)
            case dict():
                return {key: self.value(inner) for key, inner in said.items()}
            case list():
                return [self.value(inner) for inner in said]
        return said

    def _present(self, references: list[Any], *, every: bool = False) -> list[Any]:
        found: list[Any] = []
        for reference in references:
            try:
                found.append(self.value(reference))
            except SkippedError:
                continue
            if not every:
                break
        return found

    def look_up(self, reference: str) -> Any:
        """What a reference names."""
        owner, name = reference.split(".")
        if owner == "inputs":
            known = self.inputs
        else:
            end = self.end(owner)
            if end is None:
                raise NeverError
            if end.blocks:
                raise BlockedError
            known = end.outputs
        if name not in known:
            raise SkippedError
        return known[name]

    def expression(self, text: str) -> Any:
        """What an expression gives; one that names something failed is blocked, whatever else was skipped."""
        names, known, skipped = set(_REFERENCE.findall(text)), dict[str, Any](), False
        asked = set(_ASKED.findall(text))
        for name in names:
            try:
                known[name] = self.look_up(name)
            except SkippedError:
                skipped = skipped or name not in asked
        if skipped:
            raise SkippedError
        text = _ASKED.sub(lambda found: str(found[1] in known), text)
        text = _REFERENCE.sub(lambda found: repr(known[found[0]]), text).replace("&&", " and ")
        return eval(text, {"__builtins__": {}, "size": len})


class _Until:
    """The scope of a loop's `until`: its body, which has ended."""

    def __init__(self, outer: _Level, body: Json, inputs: Json, name: str) -> None:
        self._level = _Level(body, inputs, f"{outer.prefix}{name}.", outer.around)

    def holds(self, text: str) -> bool:
        """Whether the loop is done; not by what was skipped."""
        try:
            return self._level.expression(text) is True
        except SkippedError:
            return False


def needs_of(node: Json) -> set[str]:
    """The nodes beside a node for which it waits."""
    found = set(node.get("after", ()))
    waiting: list[Any] = [{"$expr": node.get("when", "")}]
    waiting += [node[key] for key in ("inputs", "over", "with", "carry", "show") if key in node]
    while waiting:
        match waiting.pop():
            case {"$from": str(text)} | {"$expr": str(text)}:
                found |= {name.partition(".")[0] for name in _REFERENCE.findall(text)}
            case dict(inner):
                waiting += inner.values()
            case list(inner):
                waiting += inner
    return found - {"inputs"}


def _bound(specs: Json, given: Json, only: tuple[str, ...] | None = None, but: tuple[str, ...] = ()) -> Json:
    """The inputs of a level: what is given and fits, or the default."""
    found = {name: given[name] for name in given if name not in specs and only and name in only}
    for name, spec in specs.items():
        if name in but or (only is not None and name not in only):
            continue
        if name in given:
            if spec.get("type") == "integer" and not isinstance(given[name], int):
                raise WrongError
            found[name] = given[name]
        elif "default" in spec:
            found[name] = spec["default"]
        elif not spec.get("optional"):
            raise WrongError
    return found
