"""Nodes of control flow: what is wrong with them is found at once, where it is, those inside bodies too."""

import time
from typing import Any

import pytest

from spindle_common.problems import InvalidWorkflow
from spindle_control.compiler import Checked, CheckedFlow, Limits, check, plan
from spindle_control.compiler.plan import Plan
from support.compiler_catalog import catalog, workflow
from support.memory import peak

Json = dict[str, Any]
CATALOG = catalog()
PICTURE: Json = {"type": "image.generate@1", "inputs": {"prompt": "x"}}
SOUND: Json = {"type": "tts.say@1", "inputs": {"text": "x"}}


def value(of: Any) -> Json:
    """A node that gives its input on."""
    return {"type": "test.noop@1", "inputs": {"value": of}}


def ref(text: str) -> Json:
    return {"$from": text}


def resized(of: str) -> Json:
    return {"type": "image.resize@1", "inputs": {"image": ref(of), "scale": 2}}


def mapping(**more: Any) -> Json:
    body = {"nodes": {"v": value(ref("inputs.item"))}, "outputs": {"v": ref("v.value")}}
    return {"type": "flow.map@1", "over": [1, 2], "body": body} | more


def looping(**more: Any) -> Json:
    body = {
        "inputs": {"n": {"type": "integer"}},
        "nodes": {"v": value(ref("inputs.n"))},
        "outputs": {"n": ref("inputs.n")},
    }
    return {"type": "flow.loop@1", "max_iterations": 3, "carry": {"n": 1}, "body": body} | more


def approving(**more: Any) -> Json:
    return {"type": "flow.approve@1", "answer": {"type": "boolean"}} | more


def checked(nodes: Json, library: Json | None = None, **more: Any) -> Checked:
    return check(workflow(nodes, **more), CATALOG, Limits(), library or {})


def only(nodes: Json, library: Json | None = None, **more: Any) -> tuple[str, str, str]:
    with pytest.raises(InvalidWorkflow) as caught:
        checked(nodes, library, **more)
    assert len(caught.value.errors) == 1, caught.value.errors
    (found,) = caught.value.errors
    return found.pointer, found.code, f"{found.detail}; {found.model_dump(mode='json').get('hint', '')}"


def body(nodes: Json, outputs: Json | None = None, **inputs: Json) -> Json:
    return {"nodes": nodes, "outputs": outputs or {}, "inputs": inputs}


MISTAKES = [
    ({"m": {"type": "flow.map@1", "over": [1]}}, "/nodes/m", "missing-key", "body"),
    ({"m": mapping(carry={})}, "/nodes/m/carry", "unknown-key", "flow.map@1"),
    ({"m": mapping(retry={"max_attempts": 2})}, "/nodes/m/retry", "unknown-key", "nodes of the body"),
    ({"m": mapping(over=7)}, "/nodes/m/over", "bad-literal", "array"),
    ({"m": mapping(over=ref("p.image")), "p": PICTURE}, "/nodes/m/over/$from", "type-mismatch", "a list"),
    ({"m": mapping(over=[1] * 10_001)}, "/nodes/m/over", "bad-literal", "10000"),
    ({"m": mapping(**{"with": {"x": 1}})}, "/nodes/m/with/x", "unknown-input", "no input `x`"),
    ({"m": mapping(**{"with": {"index": 1}})}, "/nodes/m/with/index", "unknown-input", "anyway; leave it out"),
    ({"m": mapping(inputs={"x": 1})}, "/nodes/m/inputs", "unknown-key", "`with`"),
    ({"l": looping(max_iterations=100_000)}, "/nodes/l/max_iterations", "bad-value", "10000"),
    ({"c": {"type": "flow.call@1", "workflow_ref": "Po@@1"}}, "/nodes/c/workflow_ref", "bad-value", "poster@3"),
    ({"m": mapping(type="flow.maps@1")}, "/nodes/m/type", "unknown-type", "flow.map@1"),
    (
        {"m": mapping(body=body({"v": value(ref("item"))}))},
        "/nodes/m/body/nodes/v/inputs/value/$from",
        "bad-reference",
        "inputs.item",
    ),
    (
        {"m": mapping(body=body({"v": value(1)}, index={"type": "string"}))},
        "/nodes/m/body/inputs/index",
        "type-mismatch",
        "a string",
    ),
    (
        {"l": looping(body=body({"v": value(1)}, {"n": 1}, index={"type": "string"}, n={"type": "integer"}))},
        "/nodes/l/body/inputs/index",
        "type-mismatch",
        "a string",
    ),
    (
        {"m": mapping(body=body({"v": value(ref("inputs.outside"))}))},
        "/nodes/m/body/nodes/v/inputs/value/$from",
        "unknown-input",
        "`with`",
    ),
    ({"m": mapping(body=body({"v": value(1)}, x={"type": "string"}))}, "/nodes/m", "missing-input", "`x`"),
    (
        {"m": mapping(body=body({"v": value(1)}, x={"type": "string"}), **{"with": {"x": 1}})},
        "/nodes/m/with/x",
        "bad-literal",
        "a string",
    ),
    (
        {"m": mapping(over=["a"], body=body({"v": value(1)}, item={"type": "integer"}))},
        "/nodes/m/over/0",
        "bad-literal",
        "",
    ),
    (
        {"m": mapping(body=body({"v": value(ref("w.value"))}))},
        "/nodes/m/body/nodes/v/inputs/value/$from",
        "unknown-node",
        "w",
    ),
    (
        {"m": mapping(body=body({"v": value(ref("outside.value"))})), "outside": value(1)},
        "/nodes/m/body/nodes/v/inputs/value/$from",
        "unknown-node",
        "a body sees",
    ),
    (
        {"m": mapping(body=body({"v": value(1)}, {"x": ref("v.nothing")}))},
        "/nodes/m/body/outputs/x/$from",
        "unknown-output",
        "",
    ),
    ({"m": mapping(), "b": value(ref("m.w"))}, "/nodes/b/inputs/value/$from", "unknown-output", "there are: v"),
    ({"m": mapping(over=ref("n.v")), "n": mapping(over=ref("m.v"))}, "/nodes/m/over/$from", "cycle", "m → n → m"),
    ({"l": looping(carry={})}, "/nodes/l/carry", "missing-input", "`n`"),
    ({"l": looping(carry={"n": "x"})}, "/nodes/l/carry/n", "bad-literal", ""),
    ({"l": looping(carry={"n": 1}, **{"with": {"n": 1}})}, "/nodes/l/with/n", "unknown-input", "carried"),
    ({"l": looping(until="v.value")}, "", "", ""),
    ({"l": looping(until="w.value > 1")}, "/nodes/l/until", "unknown-node", "`w`"),
    ({"l": looping(until="v.value >")}, "/nodes/l/until", "bad-expression", ""),
    (
        {"l": looping(body=body({"v": value(1)}, n={"type": "integer"}))},
        "/nodes/l/body/outputs",
        "missing-output",
        "`n`",
    ),
    (
        {"l": looping(body=body({"v": SOUND}, {"n": ref("v.wav")}, n={"type": "integer"}))},
        "/nodes/l/body/outputs/n",
        "type-mismatch",
        "audio/wav",
    ),
    (
        {"l": looping(body=body({"v": value(1)}, {"n": 1, "reached": 1}, n={"type": "integer"}))},
        "/nodes/l/body/outputs/reached",
        "reserved-id",
        "",
    ),
    ({"a": approving(answer={"type": "colour"})}, "/nodes/a/answer/type", "bad-schema", ""),
    ({"a": approving(default=True)}, "/nodes/a/default", "bad-value", "deadline"),
    ({"a": approving(default=1, deadline="1h")}, "/nodes/a/default", "bad-default", ""),
    ({"a": approving(deadline="soon")}, "/nodes/a/deadline", "bad-duration", "24h"),
    ({"a": approving(show={"s": {"$secret": "key"}})}, "/nodes/a/show/s", "secret-shown", "leave it out"),
    ({"a": value(1) | {"over": [1]}}, "/nodes/a/over", "unknown-key", "flow."),
    ({"c": {"type": "flow.call@1", "workflow_ref": "poster@1"}}, "/nodes/c/workflow_ref", "unknown-workflow", ""),
    ({"m": mapping(over=ref("p.image")), "p": PICTURE}, "/nodes/m/over/$from", "type-mismatch", "gives image/png"),
]


@pytest.mark.parametrize(("nodes", "pointer", "code", "says"), MISTAKES)
def test_mistakes(nodes: Json, pointer: str, code: str, says: str) -> None:
    if not code:
        checked(nodes)
        return
    where, found, words = only(nodes)
    assert (where, found) == (pointer, code), words
    assert says in words


def test_what_a_map_gives_is_a_list_of_what_its_body_gives() -> None:
    nodes = {"m": mapping(body=body({"p": PICTURE}, {"image": ref("p.image")}))}
    checked({**nodes, "grid": {"type": "image.grid@1", "inputs": {"images": ref("m.image")}}})
    where, code, words = only({**nodes, "big": resized("m.image")})
    assert (where, code) == ("/nodes/big/inputs/image/$from", "type-mismatch")
    assert "`m.image` gives a list of image/png" in words


def test_types_go_through_bodies_within_bodies() -> None:
    inner = mapping(body=body({"s": SOUND}, {"audio": ref("s.wav")}))
    outer = mapping(body=body({"inner": inner}, {"audio": ref("inner.audio")}))
    where, code, words = only({"outer": outer, "big": resized("outer.audio.0.0")})
    assert (where, code) == ("/nodes/big/inputs/image/$from", "type-mismatch")
    assert "audio/wav" in words


def test_a_handle_leaves_no_body() -> None:
    inner = body({"t": {"type": "text.encode@1", "inputs": {"prompt": "x"}}}, {"c": ref("t.conditioning")})
    where, code, _ = only({"m": mapping(body=inner)})
    assert (where, code) == ("/nodes/m/body/outputs/c/$from", "handle-crosses")


def stored(nodes: Json, **more: Any) -> Json:
    return workflow(nodes, **more)


def test_a_call_has_the_inputs_and_outputs_of_what_it_calls() -> None:
    twice = stored({"v": value(ref("inputs.n"))}, inputs={"n": {"type": "integer"}}, outputs={"n": ref("v.value")})
    call = {"type": "flow.call@1", "workflow_ref": "twice@1", "inputs": {"n": 1}}
    checked({"c": call, "after": value(ref("c.n"))}, {"twice@1": twice})
    assert only({"c": call | {"inputs": {}}}, {"twice@1": twice})[:2] == ("/nodes/c/inputs", "missing-input")
    assert only({"c": call | {"inputs": {"n": "x"}}}, {"twice@1": twice})[:2] == ("/nodes/c/inputs/n", "bad-literal")


def test_workflows_that_call_each_other_never_end() -> None:
    def calling(name: str) -> Json:
        return stored({"c": {"type": "flow.call@1", "workflow_ref": name}})

    library = {"a@1": calling("b@1"), "b@1": calling("a@1")}
    where, code, words = only({"c": {"type": "flow.call@1", "workflow_ref": "a@1"}}, library)
    assert (where, code) == ("/nodes/c/workflow_ref", "recursive-call")
    assert "b@1" in words


def test_called_workflows_count_as_nodes_however_they_branch() -> None:
    library: Json = {"w0@1": stored({f"n{at}": value(at) for at in range(10)})}
    for at in range(1, 12):
        call = {"type": "flow.call@1", "workflow_ref": f"w{at - 1}@1"}
        library[f"w{at}@1"] = stored({f"c{branch}": call for branch in range(10)})
    began = time.process_time()
    where, code, _ = only({"c": {"type": "flow.call@1", "workflow_ref": "w11@1"}}, library)
    assert (where, code) == ("/nodes", "too-many-nodes")
    assert time.process_time() - began < 10, "bounded, however slow the machine"


def nested(depth: int) -> Json:
    node = value(1)
    for _ in range(depth):
        node = {"type": "flow.map@1", "over": [1], "body": {"nodes": {"n": node}}}
    return {"n": node}


def test_bodies_go_sixteen_deep_and_no_deeper() -> None:
    checked(nested(16))
    where, code, _ = only(nested(17))
    assert (where.count("/body"), code) == (17, "too-deep")


def test_nodes_in_bodies_count() -> None:
    inner = {f"n{at}": value(at) for at in range(1999)}
    checked({"m": mapping(body=body(inner))})
    assert only({"m": mapping(body=body(inner)), "more": value(1)})[:2] == ("/nodes", "too-many-nodes")


def test_a_plan_with_bodies_survives_text() -> None:
    import json

    nodes = {"m": mapping(), "l": looping(until="inputs.n > 1"), "a": approving(deadline="1h", default=True)}
    made = plan(checked(nodes), CATALOG)
    assert Plan.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_nothing_is_fused_with_a_flow() -> None:
    text: Json = {"type": "text.template@1", "inputs": {"template": "x", "values": {}}}
    nodes = {"t": text, "a": approving(show={"t": ref("t.text")}), "n": value(ref("a.answer"))}
    found = checked(nodes)
    assert isinstance(found.nodes["a"], CheckedFlow)
    made = plan(found, CATALOG)
    assert [task.id for task in made.tasks] == ["t", "n"]
    assert [flow.id for flow in made.level.flows] == ["a"]
    assert dict(made.node_task) == {"t": ("t",), "a": ("a",), "n": ("n",)}


def test_a_map_of_maps_is_checked_in_bounded_time_and_memory() -> None:
    """Bodies that fan out in bodies: every level has as many as fit."""

    def level(depth: int, width: int) -> Json:
        if depth == 0:
            return {f"v{at}": value(ref("inputs.item")) for at in range(width)}
        return {f"m{at}": mapping(body=body(level(depth - 1, width))) for at in range(width)}

    began = time.process_time()
    assert peak(lambda: checked(level(3, 6))) < 100 << 20
    assert time.process_time() - began < 10, "bounded, however slow the machine"
