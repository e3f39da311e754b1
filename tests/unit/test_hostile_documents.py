"""Documents made to hurt, with control flow and lists: told what is wrong soon, in little memory.

Aims (issue 4): problems within 100 ms and 200 MB on a quiet machine, a valid document of 1,000 nodes within 50 ms.
Here the measure is the check of that valid document in the same process: processor time, the least of a few.
"""

import math
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from fuzz.judging import CATALOG
from spindle_common.problems import InvalidWorkflow
from spindle_control.compiler import Checked, Limits, check, plan
from support.compiler_catalog import noop, workflow
from support.memory import peak

Json = dict[str, Any]
TIMES_THE_VALID_ONE = 10.0


def flow(kind: str, body: Json, **more: Any) -> Json:
    usual: Json = {"over": [1]} if kind == "map" else {"max_iterations": 2}
    return {"type": f"flow.{kind}@1", **usual, "body": body, **more}


def mapped(**changes: Any) -> Json:
    return workflow({"m": flow("map", {"nodes": {"a": noop()}}) | changes})


def listed(kind: str, **inputs: Any) -> Json:
    return {"type": f"list.{kind}@1", "inputs": inputs}


def ref(text: str) -> Json:
    return {"$from": text}


def nested(depth: int, kind: str = "map") -> Json:
    nodes: Json = {"a": noop()}
    for _ in range(depth):
        nodes = {"a": flow(kind, {"nodes": nodes, "outputs": {"v": ref("a.v")}})}
    return workflow(nodes)


def fans(width: int, depth: int) -> Json:
    """Fan-out in fan-out: ten thousand items, each with as many."""
    nodes: Json = {"a": noop()}
    for _ in range(depth):
        nodes = {"a": flow("map", {"nodes": nodes}, over=list(range(width)), concurrency=1000)}
    return workflow(nodes)


def following(kind: str, count: int) -> Json:
    """A chain of nodes whose types follow each other."""
    nodes: Json = {"n0": listed("range", count=4)}
    for at in range(1, count):
        before = ref(f"n{at - 1}.items")
        nodes[f"n{at}"] = listed(kind, lists=[before, before]) if kind == "concat" else listed(kind, items=before)
    nodes["end"] = {"type": "image.resize@1", "inputs": {"image": ref(f"n{count - 1}.items")}}
    return workflow(nodes)


def growing(count: int) -> Json:
    """Each value holds the one before it twice."""
    nodes: Json = {"n0": {"type": "value.const@1", "inputs": {"value": [1, "a", {"k": None}]}}}
    for at in range(1, count):
        before = ref(f"n{at - 1}.value")
        nodes[f"n{at}"] = {"type": "value.const@1", "inputs": {"value": {"l": before, "r": before}}}
    return workflow({**nodes, "end": noop("nobody")})


def circles(count: int) -> Json:
    """A circle that goes through bodies: each map is given what the next one gives."""
    body = {"inputs": {"p": {}}, "nodes": {"v": noop()}, "outputs": {"v": ref("inputs.p")}}
    return workflow(
        {f"m{at}": flow("map", body, **{"with": {"p": ref(f"m{(at + 1) % count}.v")}}) for at in range(count)}
    )


def bombs(count: int) -> Json:
    text = "inputs.x.map(a, inputs.x.size() + " + "+".join(["1"] * 200) + ")"
    body = {"inputs": {"x": {"type": "array"}}, "nodes": {"v": noop(when=text[:511])}}
    return workflow({f"l{at}": flow("loop", body, until=text[:500], carry={}) for at in range(count)})


MANY = [f"i{at}" for at in range(10_000)]
ODD_IDS = [
    "__proto__",
    "constructor",
    "\u0430",
    "a\u200b",
    "\u202ea",
    "\uff41",
    "A",
    "a" * 65,
    "a" * 10_000,
    "item",
    "",
    "\U0001d41a",
]
HOSTILE: dict[str, Callable[[], Json]] = {
    "maps in maps": lambda: nested(17),
    "maps beyond any depth": lambda: nested(2000),
    "loops in loops": lambda: nested(17, "loop"),
    "fan-out in fan-out": lambda: fans(10_001, 3),
    "circles through bodies": lambda: circles(900),
    "expression bombs": lambda: bombs(900),
    "odd ids": lambda: workflow({id_: noop() for id_ in ODD_IDS}),
    "odd ids in bodies": lambda: workflow({"m": flow("map", {"nodes": {id_: noop() for id_ in ODD_IDS}})}),
    "look-alike references": lambda: workflow({"a": noop(), "b": noop("\u0430")}),
    "huge numbers": lambda: mapped(concurrency=1e308, over=[1e308] * 9000),
    "not a number": lambda: mapped(over=[math.nan] * 9000),
    "ten thousand inputs": lambda: mapped(body={"nodes": {"a": noop()}, "inputs": {name: {} for name in MANY}}),
    "ten thousand given": lambda: mapped(**{"with": dict.fromkeys(MANY, 1)}),
    "ten thousand outputs": lambda: workflow({"a": noop()}, outputs={f"o{at}": ref("b.v") for at in range(10_000)}),
    "a chain of sliced lists": lambda: following("slice", 1900),
    "a chain of joined lists": lambda: following("concat", 1900),
    "a chain of compacted lists": lambda: following("compact", 1900),
    "values that double": lambda: growing(1900),
}  # fmt: skip


@cache
def yardstick() -> float:
    """Seconds of processor time that a valid document of 1,000 nodes takes."""
    nodes = {f"n{at}": noop(*([f"n{at - 1}"] if at else [])) for at in range(1000)}
    return least(lambda: check(workflow(nodes), CATALOG), 5)


def least(work: Callable[[], Any], times: int = 3) -> float:
    found = []
    for _ in range(times):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)


def refused(document: Json) -> None:
    with pytest.raises(InvalidWorkflow) as caught:
        check(document, CATALOG, Limits())
    assert 0 < len(caught.value.errors) <= 1001
    assert all(len(each.detail) <= 500 for each in caught.value.errors)


@pytest.mark.parametrize("name", HOSTILE)
def test_problems_come_soon(name: str) -> None:
    document = HOSTILE[name]()
    assert least(lambda: refused(document)) < max(TIMES_THE_VALID_ONE * yardstick(), 5)


@pytest.mark.parametrize("name", HOSTILE)
def test_problems_take_little_memory(name: str) -> None:
    document = HOSTILE[name]()
    assert peak(lambda: refused(document)) < 200 << 20


def test_a_thousand_nodes_in_bodies_are_planned() -> None:
    body = {"inputs": {"p": {}}, "nodes": {f"v{at}": noop() for at in range(24)}, "outputs": {"v": ref("v1.value")}}
    nodes: Json = {"m0": flow("map", body, **{"with": {"p": 1}})}
    nodes |= {f"m{at}": flow("map", body, over=ref(f"m{at - 1}.v"), **{"with": {"p": at}}) for at in range(1, 40)}
    checked: Checked = check(workflow(nodes), CATALOG)
    assert checked.level.count == 1000
    assert least(lambda: check(workflow(nodes), CATALOG)) < 20 * max(yardstick(), 0.1)
    assert least(lambda: plan(checked, CATALOG)) < 60 * max(yardstick(), 0.1)
