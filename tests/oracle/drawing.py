"""Random workflows, small ones: every construct within every other, some nodes failing, some skipped."""

import random
from dataclasses import dataclass, field
from typing import Any

from oracle.meaning import Meaning, meaning

Json = dict[str, Any]
_WORK = ("sum", "sum", "sum", "list", "list", "picky", "shaky")
_PLACES = ("cpu", "gpu", "both", "light")
_LEAST, _MOST = 4, 70


@dataclass
class Case:
    """A workflow with what it is given and what it calls; `means` is what must come of it."""

    document: Json
    inputs: Json
    library: dict[str, Json]
    means: Meaning


def draw(rng: random.Random) -> Case:
    """Draw a workflow of a few nodes that comes to no more than some dozens."""
    while True:
        drawer = _Drawer(rng)
        document = drawer.document(0, rng.randint(3, 9))
        document["on_failure"] = rng.choice(["continue"] * 7 + ["stop"])
        inputs = {"a": rng.randrange(9), "l": [rng.randrange(9) for _ in range(rng.randrange(4))]}
        means = meaning(document, inputs, drawer.library)
        if _LEAST <= len(means.ends) <= _MOST:
            return Case(document, inputs, drawer.library, means)


@dataclass
class _Known:
    """What may be referred to where a node stands."""

    numbers: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


class _Drawer:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.library: dict[str, Json] = {}

    def document(self, depth: int, count: int) -> Json:
        """A workflow by itself."""
        number, optional = {"type": "integer"}, {"type": "integer", "optional": True}
        inputs: Json = {
            "a": number,
            "l": {"type": "array", "items": number},
            "gone": optional,
            "d": number | {"default": 5},
        }
        known = _Known(["inputs.a", "inputs.d", "inputs.gone"], ["inputs.l"])
        found: Json = {"schema": "spindle.workflow/v1", "inputs": inputs} | self._level(depth, count, known)
        if depth == 0:  # what a run gives may be large; who calls a workflow counts on numbers
            large = {"$from": self.rng.choice([*known.lists, *known.others])}
            count_of = {"$expr": f"size({self.rng.choice(known.lists)})"}
            found["outputs"] |= {"large": self.rng.choice((large, {"deep": [large]})), "how_many": count_of}
        return found

    def _level(self, depth: int, count: int, known: _Known) -> Json:
        nodes: Json = {}
        for at in range(count):
            id_ = f"n{at}"
            nodes[id_] = self._conditions(self._node(depth, id_, known), list(nodes), known)
            self._offer(id_, nodes[id_], known)
        ids = list(nodes)
        self.rng.shuffle(ids)
        outputs = {f"o{at}": self._number(known) for at in range(self.rng.randint(1, 2))}
        return {"nodes": {id_: nodes[id_] for id_ in ids}, "outputs": outputs}

    def _offer(self, id_: str, node: Json, known: _Known) -> None:
        """Make known what a node gives."""
        match node["type"]:
            case "flow.map@1":
                known.others += [f"{id_}.{name}" for name in node["body"]["outputs"]]
            case "flow.loop@1":
                known.numbers += [f"{id_}.{name}" for name in (*node["body"]["outputs"], "iterations")]
            case "flow.call@1":
                known.numbers += [f"{id_}.{name}" for name in self.library[node["workflow_ref"]]["outputs"]]
            case "flow.approve@1":
                known.numbers.append(f"{id_}.answer")
            case kind if ".list@" in kind:
                known.lists.append(f"{id_}.items")
            case _:
                known.numbers.append(f"{id_}.value")

    def _conditions(self, node: Json, before: list[str], known: _Known) -> Json:
        rng = self.rng
        if rng.random() < 0.2:
            node["when"] = self._condition(known)
        if before and rng.random() < 0.15:
            node["after"] = [rng.choice(before)]
        if rng.random() < (0.3 if "picky" in node["type"] or "flow" in node["type"] else 0.05):
            node["on_error"] = "skip"
        return node

    def _condition(self, known: _Known) -> str:
        rng, reference = self.rng, self.rng.choice(known.numbers)
        if rng.random() < 0.2:
            return f"has({reference})"
        if known.lists and rng.random() < 0.3:
            return f"size({rng.choice(known.lists)}) % 2 == {rng.randrange(2)}"
        more = f" && {rng.choice(known.numbers)} < 900" if rng.random() < 0.3 else ""
        return f"{reference} % {rng.randint(2, 4)} {rng.choice(('==', '!='))} {rng.randrange(3)}{more}"

    # Nodes ---------------------------------------------------------------------------------------------------------

    def _node(self, depth: int, id_: str, known: _Known) -> Json:
        draw = self.rng.random()
        if draw < 0.15 and depth < 3:
            return self._map(depth, known)
        if draw < 0.25 and depth < 3:
            return self._loop(depth, known)
        if draw < 0.32 and depth < 2:
            return self._call(depth, known)
        if draw < 0.38:
            return {"type": "flow.approve@1", "answer": {"type": "integer"}, "show": {"it": self._number(known)}}
        kind = f"{self.rng.choice(_PLACES)}.{self.rng.choice(_WORK)}@1"
        node = {"type": kind, "inputs": {f"in{at}": self._any(known) for at in range(self.rng.randint(0, 3))}}
        if "shaky" in kind or self.rng.random() < 0.2:
            node["retry"] = {"max_attempts": self.rng.randint(1, 4), "backoff": self.rng.choice(("0s", "1ms", "20ms"))}
        return node

    def _body(self, depth: int, known: _Known, inputs: Json) -> Json:
        numbers = [f"inputs.{name}" for name, spec in inputs.items() if spec.get("type") == "integer"]
        lists = [f"inputs.{name}" for name, spec in inputs.items() if spec.get("type") == "array"]
        inside = _Known([*numbers, "inputs.index"], [*known.lists, *lists], known.others)
        return {"inputs": inputs} | self._level(depth + 1, self.rng.randint(1, 3), inside)

    def _with(self, known: _Known) -> tuple[Json, Json]:
        """Some inputs of a body, and what it is given for them."""
        rng, given, inputs = self.rng, dict[str, Any](), dict[str, Any]()
        for name in ("p", "q")[: rng.randrange(3)]:
            inputs[name] = {"type": "integer"} | rng.choice([{}, {}, {"default": 4}, {"optional": True}])
            if len(inputs[name]) == 1 or rng.random() < 0.6:
                given[name] = self._number(known)
        if rng.random() < 0.4:
            inputs["r"], given["r"] = {"type": "array", "items": {"type": "integer"}}, self._numbers(known)
        return given, inputs

    def _map(self, depth: int, known: _Known) -> Json:
        rng = self.rng
        given, inputs = self._with(known)
        draw, body_known, over = rng.random(), _Known(), dict[str, Any]()
        if draw < 0.2 and known.others:
            over = {"$from": rng.choice(known.others)}
            body_known.others = ["inputs.item"]
        else:
            over = self._numbers(known)
            body_known.numbers = ["inputs.item"]
            inputs["item"] = {"type": "integer"}
        node = {
            "type": "flow.map@1",
            "over": over,
            "with": given,
            "body": self._body(depth, body_known, inputs),
            "on_item_error": rng.choice(("fail", "skip", "null")),
        }
        return node | ({"concurrency": rng.randint(1, 3)} if rng.random() < 0.7 else {})

    def _loop(self, depth: int, known: _Known) -> Json:
        given, inputs = self._with(known)
        carry = {"o0": self._number(known)} if self.rng.random() < 0.7 else {}
        body = self._body(depth, _Known(), inputs | {name: {"type": "integer"} for name in carry})
        node: Json = {"type": "flow.loop@1", "carry": carry, "with": given, "body": body}
        node["max_iterations"] = self.rng.randint(1, 3)
        inside = _Known(["inputs.index"])
        for id_, inner in body["nodes"].items():
            self._offer(id_, inner, inside)
        return node | ({"until": self._condition(inside)} if self.rng.random() < 0.7 else {})

    def _call(self, depth: int, known: _Known) -> Json:
        name = f"w{len(self.library)}@1"
        self.library[name] = {}
        self.library[name] = self.document(depth + 1, self.rng.randint(1, 3)) | {"name": name.partition("@")[0]}
        inputs = {"a": self._number(known), "l": self._numbers(known)}
        if self.rng.random() < 0.4:
            inputs["gone"] = self._number(known)
        return {"type": "flow.call@1", "workflow_ref": name, "inputs": inputs}

    # Values --------------------------------------------------------------------------------------------------------

    def _number(self, known: _Known) -> Any:
        rng, numbers = self.rng, known.numbers
        draw = rng.random()
        if draw < 0.15 or not numbers:
            return rng.randrange(9)
        if draw < 0.6:
            return {"$from": rng.choice(numbers)}
        if draw < 0.8:
            return {"$expr": f"{rng.choice(numbers)} + {rng.choice(numbers)} + {rng.randrange(5)}"}
        return {"$first": [{"$from": rng.choice(numbers)} for _ in range(rng.randint(1, 3))]}

    def _numbers(self, known: _Known) -> Any:
        rng = self.rng
        draw = rng.random()
        if draw < 0.5 and known.lists:
            return {"$from": rng.choice(known.lists)}
        if draw < 0.7 and known.numbers:
            return {"$present": [{"$from": rng.choice(known.numbers)} for _ in range(rng.randint(1, 3))]}
        return [self._number(known) for _ in range(rng.randrange(4))]

    def _any(self, known: _Known) -> Any:
        draw = self.rng.random()
        if draw < 0.15 and known.others:
            return {"$from": self.rng.choice(known.others)}
        if draw < 0.3:
            return self._numbers(known)
        if draw < 0.4:
            return {"deep": [self._number(known)]}
        return self._number(known)
