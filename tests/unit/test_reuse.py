"""What a run takes over from the one it repeats: decided from two documents and a ledger."""

import copy
from typing import Any

import pytest

from spindle_common.seeds import draw_seed
from spindle_control.compiler import check
from spindle_control.merging import merge
from spindle_control.paths import Nodes, order
from spindle_control.reuse import After, Before, share
from support.compiler_catalog import catalog, workflow

Json = dict[str, Any]
CATALOG = catalog()


def noop(**inputs: Any) -> Json:
    return {"type": "test.noop@1", "inputs": inputs}


def of(*names: str) -> Json:
    return noop(value=[{"$from": f"{name}.value"} for name in names])


DIAMOND: Json = workflow(
    {"a": noop(value={"$from": "inputs.x"}), "b": of("a"), "c": of("a"), "d": of("b", "c"), "e": noop(value=1)},
    inputs={"x": {"type": "integer"}, "y": {"type": "integer", "default": 1}},
)
MAP: Json = workflow(
    {
        "n": noop(value=1),
        "m": {
            "type": "flow.map@1",
            "over": [1, 2, 3],
            "with": {"n": {"$from": "n.value"}, "k": 5},
            "body": {
                "inputs": {"item": {"type": "integer"}, "n": {}, "k": {}},
                "nodes": {"p": noop(value={"$from": "inputs.k"}), "q": noop(value={"$from": "inputs.n"}), "r": of("p")},
                "outputs": {"r": {"$from": "r.value"}},
            },
        },
        "z": noop(value={"$from": "m.r"}),
    }
)
LOOP: Json = workflow(
    {
        "l": {
            "type": "flow.loop@1",
            "carry": {"n": 0},
            "max_iterations": 3,
            "body": {
                "inputs": {"n": {"type": "integer"}},
                "nodes": {"s": noop(value={"$from": "inputs.n"}), "t": noop(value=1)},
                "outputs": {"n": {"$expr": "inputs.n + 1"}},
            },
        }
    }
)


def done(*paths: str) -> Json:
    return {path: {"status": "completed", "outputs": {}} for path in paths}


def shared(document: Json, outcomes: Json, patch: Json | None = None, **wish: Any) -> Json:
    new = merge(document, patch or {})
    level = check(new, CATALOG).level
    before = Before(Nodes(document, {}), outcomes, "origin")
    after = After(Nodes(new, {}), level, frozenset(wish.get("changed", ())), wish.get("forced", ()))
    return share(before, after).to_json()


def node(id_: str, **changes: Any) -> Json:
    return {"nodes": {id_: changes}}


ALL = done("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    ("patch", "wish", "run"),
    [
        ({}, {}, []),
        ({}, {"forced": ["b"]}, ["b", "d"]),
        ({}, {"forced": ["a"]}, ["a", "b", "c", "d"]),
        ({}, {"changed": ["x"]}, ["a", "b", "c", "d"]),
        ({}, {"changed": ["y"]}, []),
        (node("c", inputs={"in1": 1}), {}, ["c", "d"]),
        (node("c", title="see", retry={"max_attempts": 3}, timeout="9s", cache=False), {}, []),
        (node("c", on_error="skip"), {}, []),
        (node("c", when="true"), {}, ["c", "d"]),
        ({"outputs": {"o": {"$from": "d.value"}}, "on_failure": "stop", "name": "other"}, {}, []),
        (node("f", **of("b")), {}, ["f"]),
        ({"nodes": {"d": None}}, {}, []),
    ],
)
def test_what_changed_runs_again_with_all_that_needs_it(patch: Json, wish: Json, run: list[str]) -> None:
    found = shared(DIAMOND, ALL, patch, **wish)
    assert found["run"] == run
    assert sorted(found["reuse"] + run) == sorted(merge(DIAMOND, patch)["nodes"])


def test_what_failed_runs_again_with_all_that_needs_it() -> None:
    outcomes = ALL | {"b": {"status": "failed"}, "d": {"status": "completed", "outputs": {}}}
    assert shared(DIAMOND, outcomes) == {"reuse": ["a", "c", "e"], "run": ["b", "d"], "skip": []}


@pytest.mark.parametrize(
    ("reason", "skips"), [("when-false", True), ("input-skipped", True), ("upstream-failed", False), ("error", False)]
)
def test_a_skip_stands_unless_an_error_made_it(reason: str, skips: bool) -> None:
    outcomes = ALL | {"b": {"status": "skipped", "reason": reason}}
    found = shared(DIAMOND, outcomes)
    assert (found["skip"], found["run"]) == ((["b"], []) if skips else ([], ["b", "d"]))


def test_a_seed_written_as_it_was_drawn_is_no_change() -> None:
    document = workflow({"i": {"type": "image.generate@1", "inputs": {"prompt": "a red circle"}}})
    drawn = draw_seed("origin", "i")
    assert shared(document, done("i"), node("i", inputs={"seed": drawn}))["run"] == []
    assert shared(document, done("i"), node("i", inputs={"seed": drawn ^ 1}))["run"] == ["i"]


PART = done("n", "m[0]", "m[0].p", "m[0].q", "m[0].r", "m[1].p", "m[1].q") | {
    "m[1].r": {"status": "failed"},
    "m[1]": {"status": "failed"},
    "m": {"status": "failed"},
}
WHOLE = done("n", "m", "m[0]", "m[1]", "m[2]", "z")


def body(**nodes: Json) -> Json:
    return node("m", body={"nodes": nodes})


@pytest.mark.parametrize(
    ("patch", "wish", "reuse"),
    [
        ({}, {}, ["m[0]", "m[1].p", "m[1].q", "n"]),
        (node("m", on_item_error="skip", concurrency=1, title="t"), {}, ["m[0]", "m[1].p", "m[1].q", "n"]),
        (body(p={"inputs": {"in1": 1}}), {}, ["m[0].q", "m[1].q", "n"]),
        (node("n", inputs={"value": 2}), {}, ["m[0].p", "m[0].r", "m[1].p"]),
        (node("m", over=[1, 2, 4]), {}, ["n"]),
        (node("m", body={"inputs": {"k": {"default": 2}}}), {}, ["m[0].q", "m[1].q", "n"]),
        ({}, {"forced": ["m"]}, ["n"]),
        ({}, {"forced": ["m[1]"]}, ["m[0]", "n"]),
        ({}, {"forced": ["m[0].p"]}, ["m[0].q", "m[1].p", "m[1].q", "n"]),
    ],
)
def test_what_completed_in_a_map_that_did_not_is_kept(patch: Json, wish: Json, reuse: list[str]) -> None:
    assert shared(MAP, PART, patch, **wish)["reuse"] == reuse


@pytest.mark.parametrize(
    ("patch", "wish", "reuse"),
    [
        ({}, {}, ["m", "n", "z"]),
        (node("z", inputs={"in1": 1}), {}, ["m", "n"]),
        (node("m", on_item_error="skip"), {}, ["m[0]", "m[1]", "m[2]", "n"]),
        ({}, {"forced": ["m[1]"]}, ["m[0]", "m[2]", "n"]),
    ],
)
def test_a_map_that_completed_is_kept_as_a_whole(patch: Json, wish: Json, reuse: list[str]) -> None:
    assert shared(MAP, WHOLE, patch, **wish)["reuse"] == reuse


@pytest.mark.parametrize(
    ("patch", "wish", "reuse"),
    [
        ({}, {}, ["l[0]", "l[1]", "l[2].t"]),
        (node("l", max_iterations=9), {}, ["l[0]", "l[1]", "l[2].t"]),
        (node("l", carry={"n": 1}), {}, ["l[0].t"]),
        ({}, {"forced": ["l[1].s"]}, ["l[0]", "l[1].t"]),
    ],
)
def test_a_loop_is_kept_up_to_the_first_iteration_that_differs(patch: Json, wish: Json, reuse: list[str]) -> None:
    outcomes = done("l[0]", "l[0].s", "l[0].t", "l[1]", "l[1].s", "l[1].t", "l[2].t") | {"l": {"status": "failed"}}
    assert shared(LOOP, outcomes, patch, **wish)["reuse"] == reuse


def test_bodies_in_bodies() -> None:
    inner = MAP["nodes"]["m"] | {"with": {"n": 1, "k": 2}}
    document = workflow({"o": {"type": "flow.map@1", "over": [1, 2], "body": {"nodes": {"m": inner}}}})
    outcomes = done("o[0]", "o[1].m[2]", "o[1].m[0].p")
    assert shared(document, outcomes)["reuse"] == ["o[0]", "o[1].m[0].p", "o[1].m[2]"]
    forced = shared(document, outcomes, forced=["o[0].m[1].p"])
    assert forced["reuse"] == ["o[1].m[0].p", "o[1].m[2]"]


def _called(factor: int) -> Json:
    return workflow({"f": noop(value=factor), "g": noop(value=1)}, outputs={"f": {"$from": "f.value"}})


def test_a_call_of_another_version_keeps_what_is_the_same_in_it() -> None:
    library = {"w@1": _called(1), "w@2": _called(2)}
    old = workflow({"c": {"type": "flow.call@1", "workflow_ref": "w@1"}})
    new = copy.deepcopy(old)
    new["nodes"]["c"]["workflow_ref"] = "w@2"
    level = check(new, CATALOG, library=library).level
    before = Before(Nodes(old, library), done("c", "c.f", "c.g"), "origin")
    found = share(before, After(Nodes(new, library), level, frozenset(), ())).to_json()
    assert found == {"reuse": ["c.g"], "run": ["c", "c.f"], "skip": []}


def test_paths_in_their_order() -> None:
    paths = ["vars", "vars[0]", "vars[0].a", "vars[0].b[2]", "vars[0].b[10].c", "vars[9]", "vars[10]", "vars2", "w"]
    assert sorted(set(paths), key=order) == paths


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merging(target: Any, patch: Any, result: Any) -> None:
    assert merge(target, patch) == result
