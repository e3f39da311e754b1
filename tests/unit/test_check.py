"""Every mistake is found at once, each where it is, with its code and a hint."""

import copy
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spindle_common.problems import InvalidWorkflow
from spindle_control.compiler import CheckedNode, Limits, check
from support.compiler_catalog import POSTER, TINY, catalog, node_type, noop, value, workflow
from support.memory import peak

CATALOG = catalog()


def mistakes(document, found_in=CATALOG, limits=Limits()):  # noqa: B008
    with pytest.raises(InvalidWorkflow) as caught:
        check(document, found_in, limits)
    return caught.value.errors


def only(document, **more):
    found = mistakes(document, **more)
    assert len(found) == 1, found
    return found[0]


def hint(mistake):
    return mistake.model_dump(mode="json").get("hint", "")


def resize(**inputs):
    return {"type": "image.resize@1", "inputs": inputs}


def ref(text):
    return {"$from": text}


def test_a_right_document_passes():
    checked = check(POSTER, CATALOG, Limits())
    assert list(checked.nodes) == ["prompt", "image", "big"]
    big = checked.nodes["big"]
    assert isinstance(big, CheckedNode)
    assert big.timeout == 90
    assert (big.max_attempts, big.backoff) == (3, 0.5)
    assert set(big.needs) == {"image"}
    assert big.reads == {"seed"}
    assert checked.warnings == ()
    assert checked.on_failure == "continue"


def test_checking_changes_nothing():
    before = copy.deepcopy(POSTER)
    check(POSTER, CATALOG)
    assert before == POSTER


ONE_NODE = {"a": noop()}
SCHEMA_MISTAKES: Any = [
    ([], "", "wrong-type"),
    (None, "", "wrong-type"),
    ({"nodes": ONE_NODE}, "", "missing-key"),
    ({"schema": "spindle.workflow/v1"}, "", "missing-key"),
    ({"schema": "spindle.workflow/v2", "nodes": ONE_NODE}, "/schema", "bad-value"),
    (workflow(ONE_NODE, naem="x"), "/naem", "unknown-key"),
    (workflow(ONE_NODE, name="Not A Name"), "/name", "bad-value"),
    (workflow(ONE_NODE, on_failure="explode"), "/on_failure", "bad-value"),
    (workflow({}), "/nodes", "bad-value"),
    (workflow([]), "/nodes", "wrong-type"),  # type: ignore[arg-type]
    (workflow({"a": 3}), "/nodes/a", "wrong-type"),
    (workflow({"a": {}}), "/nodes/a", "missing-key"),
    (workflow({"A": noop()}), "/nodes/A", "bad-id"),
    (workflow({"a/b~c": noop()}), "/nodes/a~1b~0c", "bad-id"),
    (workflow({"a": noop(tiemout="5s")}), "/nodes/a/tiemout", "unknown-key"),
    (workflow({"a": noop(timeout="5 s")}), "/nodes/a/timeout", "bad-duration"),
    (workflow({"a": noop(timeout={"run": "soon"})}), "/nodes/a/timeout/run", "bad-duration"),
    (workflow({"a": noop(retry={"backoff": 3})}), "/nodes/a/retry/backoff", "bad-duration"),
    (workflow({"a": noop(retry={"max_attempts": 0})}), "/nodes/a/retry/max_attempts", "bad-value"),
    (workflow({"a": noop(on_error="shrug")}), "/nodes/a/on_error", "bad-value"),
    (workflow({"a": noop(when=3)}), "/nodes/a/when", "bad-expression"),
    (workflow({"a": noop(after=["B!"])}), "/nodes/a/after/0", "bad-value"),
    (workflow({"a": {"type": "noversion"}}), "/nodes/a/type", "unknown-type"),
    (workflow({"a": {"type": "test.noop@1", "inputs": []}}), "/nodes/a/inputs", "wrong-type"),
    (workflow(ONE_NODE, outputs={"Bad": 1}), "/outputs/Bad", "bad-id"),
    (workflow(ONE_NODE, outputs={f"o{i}": 1 for i in range(300)}), "/outputs", "too-large"),
    (workflow(ONE_NODE, inputs={f"i{i}": {} for i in range(300)}), "/inputs", "too-large"),
    (workflow(ONE_NODE, inputs={"a": 3}), "/inputs/a", "wrong-type"),
    (workflow(ONE_NODE, inputs={"a": {"artifact": "pictures"}}), "/inputs/a/artifact", "bad-value"),
    (workflow({"loop": noop()}), "/nodes/loop", "reserved-id"),
    (workflow({"inputs": noop()}), "/nodes/inputs", "reserved-id"),
    (workflow(ONE_NODE, inputs={"item": {}}), "/inputs/item", "reserved-id"),
]


@pytest.mark.parametrize(("document", "pointer", "code"), SCHEMA_MISTAKES)
def test_shape(document, pointer, code):
    assert (pointer, code) in [(found.pointer, found.code) for found in mistakes(document)]


A_HANDLE = {"type": "text.encode@1", "inputs": {"prompt": "x"}}
PICTURE = {"type": "image.generate@1", "inputs": {"prompt": "x"}}
SOUND = {"type": "tts.say@1", "inputs": {"text": "x"}}
MEANING_MISTAKES = [
    ({"a": {"type": "image.generat@1"}}, "/nodes/a/type", "unknown-type", "image.generate@1"),
    ({"a": {"type": "wholly.unheard_of@1"}}, "/nodes/a/type", "unknown-type", "spindle nodes"),
    ({"a": {"type": "image.resize@7"}}, "/nodes/a/type", "unknown-version", "image.resize@1"),
    ({"a": resize(), "p": PICTURE}, "/nodes/a/inputs", "missing-input", "image"),
    ({"a": resize(imag=1, image=ref("p.image")), "p": PICTURE}, "/nodes/a/inputs/imag", "unknown-port", "`image`"),
    ({"a": resize(image=ref("p.image"), scale=9), "p": PICTURE}, "/nodes/a/inputs/scale", "bad-literal", ""),
    ({"a": PICTURE | {"inputs": {"prompt": 5}}}, "/nodes/a/inputs/prompt", "bad-literal", ""),
    ({"a": resize(image="me.png")}, "/nodes/a/inputs/image", "bad-literal", ""),
    ({"a": resize(image=ref("pp.image")), "p": PICTURE}, "/nodes/a/inputs/image/$from", "unknown-node", ""),
    ({"a": resize(image=ref("p.imag")), "p": PICTURE}, "/nodes/a/inputs/image/$from", "unknown-output", "`image`"),
    ({"a": resize(image=ref("p.image.x")), "p": PICTURE}, "/nodes/a/inputs/image/$from", "unknown-output", "digest"),
    ({"a": resize(image=ref("inputs.fotto"))}, "/nodes/a/inputs/image/$from", "unknown-input", "photo"),
    ({"a": resize(image=ref("photo.image"))}, "/nodes/a/inputs/image/$from", "unknown-node", "inputs.photo"),
    ({"a": resize(image=ref("p")), "p": PICTURE}, "/nodes/a/inputs/image/$from", "bad-reference", "node.port"),
    ({"a": resize(image=ref(3))}, "/nodes/a/inputs/image/$from", "bad-reference", "node.port"),
    ({"a": resize(image={"$form": "p.image"}), "p": PICTURE}, "/nodes/a/inputs/image/$form", "unknown-marker", "$from"),
    ({"a": noop(inputs={"in": {"$from": "p.seed", "x": 1}}), "p": PICTURE}, "/nodes/a/inputs/in", "bad-reference", ""),
    ({"a": noop(inputs={"in": {"$first": []}})}, "/nodes/a/inputs/in/$first", "bad-reference", ""),
    ({"a": noop(inputs={"in": {"$first": [3]}})}, "/nodes/a/inputs/in/$first/0", "bad-reference", "$literal"),
    ({"a": noop(inputs={"in": {"$secret": "../x"}})}, "/nodes/a/inputs/in/$secret", "bad-reference", ""),
    ({"a": noop(inputs={"in": {"$expr": 3}})}, "/nodes/a/inputs/in/$expr", "bad-expression", ""),
    ({"a": noop(inputs={"in": {"$expr": "1 +"}})}, "/nodes/a/inputs/in/$expr", "bad-expression", ""),
    ({"a": noop(inputs={"in": {"$expr": "b.value + 1"}})}, "/nodes/a/inputs/in/$expr", "unknown-node", ""),
    ({"a": noop(when="inputs.sed > 0")}, "/nodes/a/when", "unknown-input", "seed"),
    ({"a": noop(when="seed > 0")}, "/nodes/a/when", "bad-expression", "inputs.seed"),
    ({"a": noop(when="[1].map(i, [2].map(j, i))")}, "/nodes/a/when", "bad-expression", ""),
    ({"a": noop("a")}, "/nodes/a/inputs/in0/$from", "self-reference", ""),
    ({"a": noop(after=["a"])}, "/nodes/a/after/0", "self-reference", ""),
    ({"a": noop(after=["zz"])}, "/nodes/a/after/0", "unknown-node", ""),
    ({"a": noop(when="c.conditioning == 1"), "c": A_HANDLE}, "/nodes/a/when", "handle-crosses", ""),
    ({"a": noop(inputs={"in": ref("c.conditioning")}), "c": A_HANDLE}, "/nodes/a/inputs/in/$from", "type-mismatch", ""),
    (
        {"a": noop(inputs={"in": {"x": [ref("c.conditioning")]}}), "c": A_HANDLE},
        "/nodes/a/inputs/in/x/0/$from",
        "handle-crosses",
        "",
    ),
    ({"a": PICTURE | {"inputs": {"prompt": "x", "model": "tinny"}}}, "/nodes/a/inputs/model", "unknown-model", "tiny"),
    (
        {"a": PICTURE | {"inputs": {"prompt": "x", "model": {"model": "tiny", "digest": "sha256:" + "9" * 64}}}},
        "/nodes/a/inputs/model",
        "unknown-model",
        "leave the digest out",
    ),
    ({"a": noop(queue="gpu")}, "/nodes/a/queue", "unknown-queue", "async"),
    (
        {"a": {"type": "text.template@1", "queue": "gpu", "inputs": {"template": "x"}}},
        "/nodes/a/queue",
        "unknown-queue",
        "leave `queue` out",
    ),
    (
        {"a": {"type": "image.decode@1", "inputs": {"latents": "x"}}},
        "/nodes/a/inputs/latents",
        "type-mismatch",
        "$from",
    ),
    ({"a": noop(inputs={"in": "x" * 70_000})}, "/nodes/a/inputs/in", "too-large", "artifact"),
]


@pytest.mark.parametrize(("nodes", "pointer", "code", "says"), MEANING_MISTAKES)
def test_meaning(nodes, pointer, code, says):
    given_inputs = {"seed": {"type": "integer", "default": 1}, "photo": {"artifact": "image/*"}}
    found = only(workflow(nodes, inputs=given_inputs))
    assert (found.pointer, found.code) == (pointer, code)
    assert says in hint(found)


def test_both_ends_are_named():
    found = only(workflow({"big": resize(image=ref("say.wav")), "say": SOUND}))
    assert found.code == "type-mismatch"
    assert found.detail == "`big.image` (image.resize@1) wants image/*, `say.wav` gives audio/wav"


def test_everything_is_told_at_once():
    document = workflow(
        {
            "a": {"type": "image.generat@1", "inputs": {"x": ref("nobody.out")}},
            "b": resize(image=ref("say.wav"), scale=99),
            "c": noop("d"),
            "d": noop("c"),
            "say": {"type": "tts.say@1", "inputs": {}, "tiemout": "5s"},
            "loop": {"type": "test.noop@1", "inputs": {"in": {"$expr": "1 +"}}, "timeout": "soon"},
        },
        inputs={"x": {"type": "string", "default": 5}, "y": {"type": "strin"}},
        outputs={"o": ref("b.nothing"), "s": {"$secret": "key"}},
    )
    codes = {(found.pointer, found.code) for found in mistakes(document)}
    assert codes == {
        ("/nodes/a/type", "unknown-type"),
        ("/nodes/a/inputs/x/$from", "unknown-node"),
        ("/nodes/b/inputs/image/$from", "type-mismatch"),
        ("/nodes/b/inputs/scale", "bad-literal"),
        ("/nodes/c/inputs/in0/$from", "cycle"),
        ("/nodes/say/tiemout", "unknown-key"),
        ("/nodes/say/inputs", "missing-input"),
        ("/nodes/loop", "reserved-id"),
        ("/nodes/loop/timeout", "bad-duration"),
        ("/nodes/loop/inputs/in/$expr", "bad-expression"),
        ("/inputs/x/default", "bad-default"),
        ("/inputs/y/type", "bad-schema"),
        ("/outputs/o/$from", "unknown-output"),
        ("/outputs/s", "secret-shown"),
    }


def test_a_circle_is_one_mistake_and_is_named():
    nodes = {"a": noop("c"), "b": noop("a"), "c": noop(after=["b"]), "d": noop("c"), "e": noop()}
    found = only(workflow(nodes))
    assert found.code == "cycle"
    assert "a → c → b → a" in found.detail


def test_separate_circles_are_separate_mistakes():
    nodes = {f"n{at}": noop(f"n{at ^ 1}") for at in range(6)}
    assert [found.code for found in mistakes(workflow(nodes))] == ["cycle"] * 3


def test_expressions_make_circles_too():
    nodes = {"a": noop(when="b.value > 1"), "b": noop(inputs={"in": {"$expr": "a.value"}})}
    assert only(workflow(nodes)).code == "cycle"


OUTPUT_MISTAKES = [
    (ref("c.conditioning"), "handle-crosses"),
    ([ref("c.conditioning")], "handle-crosses"),
    ({"$expr": "c.conditioning"}, "handle-crosses"),
    ({"$secret": "key"}, "secret-shown"),
    (ref("nobody.x"), "unknown-node"),
    ({"$expr": "nobody.x"}, "unknown-node"),
    ("x" * 70_000, "too-large"),
]


@pytest.mark.parametrize(("value", "code"), OUTPUT_MISTAKES)
def test_outputs(value, code):
    assert only(workflow({"c": A_HANDLE}, outputs={"o": value})).code == code


def test_a_handle_that_would_have_to_leave_its_worker():
    def document(between):
        return workflow(
            {
                "c": A_HANDLE,
                "s": {"type": "image.sample@1", "inputs": {"conditioning": ref("c.conditioning")}},
                "d": {"type": "image.decode@1", "inputs": {"latents": ref("s.latents")}},
                "u": resize(image=ref("d.image")),
                "t": {"type": "image.decode@1", "inputs": {"latents": ref("s.latents")}, "after": [between]},
            }
        )

    assert check(document("d"), CATALOG)
    assert check(document("u"), CATALOG), "a deterministic producer is made again"
    types = dict(CATALOG.types)
    types["image.sample@1"] = types["image.sample@1"].model_copy(update={"deterministic": False})
    found = only(document("u"), found_in=catalog(types=types))
    assert (found.pointer, found.code) == ("/nodes/t/inputs/latents/$from", "handle-crosses")
    assert "`u`" in found.detail


def test_models_are_known_by_name_or_recipe():
    for model in "large", {"model": "large"}, {"model": "tiny", "digest": TINY}, ref("m.model"), ref("inputs.model"):
        nodes = {
            "a": {"type": "image.generate@1", "inputs": {"prompt": "x", "model": model}},
            "m": {"type": "model.load@1", "inputs": {"model": "tiny"}},
        }
        assert check(workflow(nodes, inputs={"model": {"type": "string"}}), CATALOG)


def test_a_missing_required_model_needs_a_default():
    document = workflow({"m": {"type": "model.load@1"}})
    assert check(document, CATALOG)
    assert only(document, found_in=catalog(default_model=None)).code == "missing-input"


def test_no_worker_is_a_warning():
    (warning,) = check(workflow({"a": noop()}), catalog(live=())).warnings
    assert (warning.pointer, warning.code, warning.severity) == ("/nodes/a", "no-worker", "warning")


def test_a_keyword_that_nobody_knows_is_a_warning():
    document = workflow(ONE_NODE, inputs={"a": {"tpye": "string", "x-mine": 1}})
    (warning,) = check(document, CATALOG).warnings
    assert (warning.pointer, warning.code) == ("/inputs/a/tpye", "unknown-keyword")
    assert "`type`" in hint(warning)


BAD_SPECS = [
    ({"$ref": "http://example.com/x"}, "/$ref"),
    ({"$ref": "#"}, "/$ref"),
    ({"$ref": "#/$defs/none"}, "/$ref"),
    ({"$id": "http://example.com"}, "/$id"),
    ({"pattern": "(?=x)"}, ""),
    ({"pattern": "("}, ""),
    ({"minLength": -1}, "/minLength"),
    ({"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}, "/items/$ref"),
    ({"description": "x" * 20_000}, ""),
    ({"items": {"artifact": "pictures"}}, "/items/artifact"),
]


@pytest.mark.parametrize(("spec", "pointer"), BAD_SPECS)
def test_schemas_that_are_not_taken(spec, pointer):
    found = only(workflow(ONE_NODE, inputs={"a": spec}))
    assert (found.pointer, found.code) == (f"/inputs/a{pointer}", "bad-schema")


def test_own_definitions_are_taken():
    spec = {"$defs": {"size": {"type": "integer", "minimum": 1}}, "properties": {"w": {"$ref": "#/$defs/size"}}}
    document = workflow(ONE_NODE, inputs={"a": spec | {"default": {"w": 0}}})
    assert (found := only(document)).pointer == "/inputs/a/default/w"
    assert found.code == "bad-default"


def nested(depth):
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def many(count, **node):
    return workflow({f"n{at}": {"type": "test.noop@1", **node} for at in range(count)})


HOSTILE = {
    "deep": workflow({"a": noop(inputs={"in": nested(50_000)})}),
    "nan": workflow({"a": noop(inputs={"in": [math.nan] * 20_000})}),
    "infinity": workflow({"a": noop(inputs={"in": math.inf})}),
    "huge": workflow({"a": noop(inputs={"in": 10**5000})}),
    "surrogate": workflow({"a": noop(inputs={"in": "\ud800"})}),
    "surrogate key": workflow({"a": noop(inputs={"\ud800": 1})}),
    "an object": workflow({"a": noop(inputs={"in": object()})}),
    "keys": workflow({"a": noop(inputs={"in": {1: 2}})}),
    "nodes": many(2001),
    "types": workflow({f"n{at}": {"type": f"image.generat{at}@1"} for at in range(2000)}),
    "unknown keys": many(1000, a=1, b=2),
    "unknown ports": workflow({"a": resize(**{f"p{at}": at for at in range(50_000)})}),
    "top keys": {f"k{at}": 1 for at in range(50_000)},
    "long key": {"x" * 500_000: 1},
    "afters": workflow({"a": noop(after=[1] * 300_000)}),
    "text": workflow({"a": noop(inputs={"in": "x" * 1_000_000})}),
    "size": workflow({"a": noop(inputs={"in": "x" * 2_000_000})}),
    "circles": workflow({f"n{at}": noop(f"n{at ^ 1}") for at in range(2000)}),
    "long circle": workflow({f"n{at}": noop(f"n{(at + 1) % 2000}") for at in range(2000)}),
    "brackets": workflow({f"n{at}": noop(when="(" * 200 + str(at) + ")" * 200) for at in range(2000)}),
    "sums": workflow({f"n{at}": noop(when="+".join([str(at)] * 100)[:511]) for at in range(2000)}),
    "schema bomb": workflow(
        ONE_NODE,
        inputs={
            "x": {
                "$defs": {"d40": {}} | {f"d{at}": {"allOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(40)},
                "$ref": "#/$defs/d0",
            }
        },
    ),
    "schemas": workflow(
        ONE_NODE,
        inputs={f"i{at}": {"anyOf": [{"const": one} for one in range(150)], "default": ""} for at in range(256)},
    ),
    "unions": workflow(
        ONE_NODE, inputs={"x": {"items": {"anyOf": [{"const": one} for one in range(400)]}, "default": [-1] * 9000}}
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_get_problems_soon(name):
    began = time.process_time()
    found = mistakes(HOSTILE[name])
    assert time.process_time() - began < 10, "a hundred milliseconds on a quiet machine; see tests/bench/compiler.py"
    assert 0 < len(found) <= 1001
    assert all(len(mistake.detail) <= 500 for mistake in found)


@pytest.mark.parametrize("name", ["sums", "unions", "types"])
def test_memory_stays_bounded(name):
    assert peak(lambda: mistakes(HOSTILE[name])) < 100 << 20


def test_a_large_document_passes():
    nodes = {f"n{at}": noop(*([f"n{at - 1}"] if at else [])) for at in range(2000)}
    assert len(check(workflow(nodes), CATALOG).nodes) == 2000


def test_limits_are_settings():
    assert only(many(11), limits=Limits(max_nodes=10)).code == "too-many-nodes"
    assert only(POSTER, limits=Limits(max_bytes=100)).code == "too-large"
    assert only(POSTER, limits=Limits(max_depth=3)).code == "too-deep"


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["a.value", "inputs.x", "image.generate@1", "test.noop@1", "5s", "1 + 1", "spindle.workflow/v1"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "$from",
                    "$expr",
                    "$first",
                    "$present",
                    "$secret",
                    "$literal",
                    "type",
                    "inputs",
                    "when",
                    "after",
                    "a",
                    "x",
                ]
            )
            | st.text(max_size=4),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)
DOCUMENTS = VALUES | st.fixed_dictionaries(
    {
        "schema": st.just("spindle.workflow/v1"),
        "nodes": st.dictionaries(
            st.sampled_from(["a", "b", "x"]),
            VALUES
            | st.fixed_dictionaries(
                {"type": st.sampled_from(["test.noop@1", "image.generate@1", "image.grid@1", "text.template@1"])},
                optional={
                    "inputs": st.dictionaries(
                        st.sampled_from(["in", "in1", "prompt", "images", "values", "model", "seed"]),
                        VALUES,
                        max_size=3,
                    ),
                    "when": VALUES,
                    "timeout": VALUES,
                    "after": VALUES,
                    "retry": VALUES,
                },
            ),
            max_size=3,
        ),
    },
    optional={
        "inputs": st.dictionaries(
            st.sampled_from(["x", "y"]),
            VALUES
            | st.fixed_dictionaries(
                {"type": st.sampled_from(["string", "number", "array"])}, optional={"default": VALUES}
            ),
            max_size=2,
        ),
        "outputs": VALUES,
    },
)


@settings(max_examples=300)
@given(DOCUMENTS)
def test_no_document_does_more_than_fail(document):
    try:
        checked = check(document, CATALOG, Limits())
    except InvalidWorkflow as error:
        refused = error
    else:
        assert set(checked.nodes) == set(document["nodes"])
        return
    assert refused.errors
    assert all(mistake.pointer == "" or mistake.pointer.startswith("/") for mistake in refused.errors)
    assert refused.problem()["status"] == 422


TEXT_OF_A = {"type": "text.template@1", "inputs": {"template": "x"}}
GRID = "image.grid@1"


def grid(images):
    return {"type": GRID, "inputs": {"images": images}}


MIXTURES = [
    (grid([ref("p.image"), ref("p.image")]), None),
    (grid({"$present": [ref("p.image")]}), None),
    (grid({"$first": [ref("inputs.photos"), {"$literal": []}]}), "/nodes/a/inputs/images/$first/1/$literal"),
    (grid([ref("p.image"), ref("say.wav")]), "/nodes/a/inputs/images/1/$from"),
    (grid([ref("p.image"), 5]), "/nodes/a/inputs/images/1"),
    (grid({"$present": [ref("p.image"), ref("say.wav")]}), "/nodes/a/inputs/images/$present/1/$from"),
    (grid(ref("p.image")), "/nodes/a/inputs/images/$from"),
    (grid({"x": ref("p.image")}), "/nodes/a/inputs/images"),
    (resize(image=[ref("p.image")]), "/nodes/a/inputs/image"),
    (resize(image={"$present": [ref("p.image")]}), "/nodes/a/inputs/image/$present"),
    (resize(image={"$first": [ref("p.image"), ref("say.wav")]}), "/nodes/a/inputs/image/$first/1/$from"),
    (resize(image={"$secret": "key"}), "/nodes/a/inputs/image/$secret"),
    (resize(image=ref("p.image"), scale={"$literal": 2}), None),
    (resize(image=ref("p.image"), scale={"$literal": 99}), "/nodes/a/inputs/scale/$literal"),
    (resize(image=ref("p.image"), scale={"$expr": "inputs.box.w * 2.0"}), None),
    (resize(image=ref("p.image"), scale=ref("inputs.box.w")), None),
    (resize(image=ref("p.image"), scale=ref("inputs.box.h")), "/nodes/a/inputs/scale/$from"),
    (resize(image=ref("p.image"), scale=ref("inputs.box.w.x")), "/nodes/a/inputs/scale/$from"),
    (resize(image=ref("inputs.photos.0")), None),
    (resize(image=ref("inputs.photos.first")), "/nodes/a/inputs/image/$from"),
    (resize(image=ref("p.image"), scale=ref("p.image.size")), None),
    (resize(image=ref("p.image"), scale=ref("p.image.digest")), "/nodes/a/inputs/scale/$from"),
    (resize(image=ref("inputs.loose.a.b")), None),
    ({"type": "text.join@1", "inputs": {"parts": [ref("t.text"), "and", {"$expr": "inputs.name"}]}}, None),
    ({"type": "text.join@1", "inputs": {"parts": [ref("t.text"), ref("p.seed")]}}, "/nodes/a/inputs/parts/1/$from"),
    ({"type": "test.box@1", "inputs": {"box": {"w": ref("p.seed"), "h": 1}}}, None),
    ({"type": "test.box@1", "inputs": {"box": {"w": ref("t.text"), "h": 1}}}, "/nodes/a/inputs/box/w/$from"),
    ({"type": "test.box@1", "inputs": {"box": {"w": ref("p.seed")}}}, "/nodes/a/inputs/box"),
    ({"type": "test.box@1", "inputs": {"box": {"w": ref("p.seed"), "h": 1, "d": 1}}}, "/nodes/a/inputs/box/d"),
    ({"type": "test.box@1", "inputs": {"box": [ref("p.seed")] * 3}}, "/nodes/a/inputs/box"),
    ({"type": "image.decode@1", "inputs": {"latents": ref("p.image")}}, "/nodes/a/inputs/latents/$from"),
    ({"type": "image.decode@1", "inputs": {"latents": [ref("p.image")]}}, "/nodes/a/inputs/latents"),
    (
        {"type": "image.decode@1", "inputs": {"latents": {"$present": [ref("c.conditioning")]}}},
        "/nodes/a/inputs/latents/$present",
    ),
    ({"type": "image.sample@1", "inputs": {"conditioning": {"$first": [ref("c.conditioning")]}}}, None),
]
SIDE = {"type": "integer", "minimum": 1}
BOX = {"type": "object", "properties": {"w": SIDE, "h": SIDE}, "required": ["w", "h"], "additionalProperties": False}
PAIR = {"type": "array", "items": SIDE, "maxItems": 2}


@pytest.mark.parametrize(("node", "pointer"), MIXTURES)
def test_mixtures_are_gone_into(node, pointer):
    box = node_type("test.box@1", {"box": value(anyOf=[BOX, PAIR, {"type": "null"}])}, {})
    known = catalog(
        types={**CATALOG.types, "test.box@1": box}, queues={**CATALOG.queues, "test.box@1": frozenset({"cpu"})}
    )
    nodes = {"a": node, "p": PICTURE, "say": SOUND, "t": TEXT_OF_A, "c": A_HANDLE}
    inputs = {
        "box": {"type": "object", "properties": {"w": {"type": "number"}}, "additionalProperties": False},
        "photos": {"type": "array", "items": {"artifact": "image/*"}},
        "loose": {},
        "name": {"type": "string"},
    }
    document = workflow(nodes, inputs=inputs)
    if pointer is None:
        assert check(document, known)
    else:
        assert only(document, found_in=known).pointer == pointer
