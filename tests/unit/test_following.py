"""Ports whose type follows another's, and the types of values as they stand in a document."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from spindle_common.contracts import Mistake, NodeType, Port
from spindle_common.problems import InvalidWorkflow
from spindle_control.compiler import Catalog, check
from spindle_control.compiler.following import Following
from spindle_control.compiler.references import Reference
from spindle_control.compiler.report import Report
from spindle_control.compiler.scope import Scope
from spindle_control.compiler.shapes import MAX_DEPTH, MAX_PARTS, Budget, Shape, schema_of, size_of, widened
from support.compiler_catalog import TYPES, catalog, image, node_type, noop, optional, value, workflow

LIST = value(type="array")
ITEM = {"x-type-of": "items/*"}
FOLLOWERS = [
    node_type("list.best@1", {"items": LIST}, {"item": value(**ITEM)}),
    node_type("list.keep@1", {"items": LIST}, {"items": value(type="array", items=ITEM)}),
    node_type("list.append@1", {"items": LIST, "value": value(**ITEM)}, {"items": value(type="array", items=ITEM)}),
    node_type(
        "list.chunk@1", {"items": LIST}, {"items": value(type="array", items=value(type="array", items=ITEM).schema_)}
    ),
    node_type(
        "list.zip@1",
        {"lists": value(type="object")},
        {"items": value(type="array", items={"x-type-of": "lists/{}/*"})},
    ),
    node_type("value.same@1", {"value": Port(kind="value")}, {"value": value(**{"x-type-of": "value"})}),
    node_type(
        "value.choose@1",
        {"then": Port(kind="value"), "otherwise": optional(Port(kind="value"))},
        {"value": value(anyOf=[{"x-type-of": "then"}, {"x-type-of": "otherwise"}])},
    ),
    node_type("value.name@1", {"of": value(type="object")}, {"name": value(**{"x-type-of": "of/name"})}),
    node_type("list.odd@1", {}, {"a": value(**{"x-type-of": 7}), "b": value(**{"x-type-of": "nowhere/*"})}),
    node_type("audio.play@1", {"audio": image("audio/*")}, {}),
    node_type("text.shout@1", {"text": value(type="string")}, {"text": value(type="string")}),
]
WITH = catalog(
    types={found.type: found for found, _ in TYPES} | {found.type: found for found in FOLLOWERS},
    queues={found.type: frozenset(queues) for found, queues in TYPES},
)
MADE = {
    "one": {"type": "image.generate@1", "inputs": {"prompt": "a"}},
    "two": {"type": "image.generate@1", "inputs": {"prompt": "b"}},
}
BOTH = [{"$from": "one.image"}, {"$from": "two.image"}]


def mistakes(nodes: dict[str, Any], known: Catalog = WITH, **more: Any) -> list[Mistake]:
    try:
        check(workflow(nodes, **more), known)
    except InvalidWorkflow as error:
        return [found for found in error.errors if found.severity == "error"]
    return []


def best(items: Any) -> dict[str, Any]:
    return {"type": "list.best@1", "inputs": {"items": items}}


def resize(reference: str) -> dict[str, Any]:
    return {"type": "image.resize@1", "inputs": {"image": {"$from": reference}}}


def play(reference: str) -> dict[str, Any]:
    return {"type": "audio.play@1", "inputs": {"audio": {"$from": reference}}}


def shout(reference: str) -> dict[str, Any]:
    return {"type": "text.shout@1", "inputs": {"text": {"$from": reference}}}


def test_an_item_of_images_is_an_image() -> None:
    nodes = MADE | {"best": best(BOTH)}
    assert not mistakes(nodes | {"big": resize("best.item")})
    (found,) = mistakes(nodes | {"play": play("best.item")})
    assert found.code == "type-mismatch"
    assert found.pointer == "/nodes/play/inputs/audio/$from"
    assert found.detail == "`play.audio` (audio.play@1) wants audio/*, `best.item` gives image/png"


@pytest.mark.parametrize(
    "items",
    [
        {"$present": BOTH},
        {"$first": [{"$from": "inputs.photos"}, {"$from": "inputs.photos"}]},
        {"$from": "inputs.photos"},
        {"$expr": "inputs.photos"},
        {"$first": [{"$from": "inputs.photos"}, {"$literal": []}]},
    ],
)
def test_lists_are_followed_however_they_are_written(items: Any) -> None:
    inputs = {"photos": {"type": "array", "items": {"artifact": "image/png"}}}
    nodes = MADE | {"best": best(items)}
    assert not mistakes(nodes | {"big": resize("best.item")}, inputs=inputs)
    assert [found.code for found in mistakes(nodes | {"play": play("best.item")}, inputs=inputs)] == ["type-mismatch"]


@pytest.mark.parametrize(
    "items", [{"$expr": "inputs.photos.filter(p, true)"}, {"$from": "inputs.any"}, {"$from": "free.value"}, []]
)
def test_what_is_not_known_is_left_to_the_run(items: Any) -> None:
    inputs = {"photos": {"type": "array", "items": {"artifact": "image/png"}}, "any": {}}
    nodes = {"free": noop(), "best": best(items)}
    assert not mistakes(nodes | {"big": resize("best.item"), "play": play("best.item")}, inputs=inputs)


def test_literals_have_types() -> None:
    (found,) = mistakes({"best": best([1, 2, 3]), "shout": shout("best.item")})
    assert found.detail == "`shout.text` (text.shout@1) wants a string, `best.item` gives one of 1, 2, 3"
    assert not mistakes({"best": best(["a", 1]), "shout": shout("best.item")})
    assert mistakes({"best": best([{"a": 1}]), "shout": shout("best.item.a")})
    (found,) = mistakes({"best": best([{"a": "x"}]), "shout": shout("best.item.b")})
    assert (found.code, found.hint) == ("unknown-output", "there are: a")


def test_a_list_of_a_list() -> None:
    nodes = MADE | {
        "chunk": {"type": "list.chunk@1", "inputs": {"items": BOTH}},
        "best": best({"$from": "chunk.items"}),
    }
    assert not mistakes(nodes | {"grid": {"type": "image.grid@1", "inputs": {"images": {"$from": "best.item"}}}})
    (found,) = mistakes(nodes | {"big": resize("best.item")})
    assert "`best.item` gives a list of image/png" in found.detail


def test_keys_are_kept() -> None:
    lists = {"picture": BOTH, "name": ["a", "b"]}
    nodes = MADE | {
        "zip": {"type": "list.zip@1", "inputs": {"lists": lists}},
        "best": best({"$from": "zip.items"}),
        "shout": shout("best.item.name"),
        "big": resize("best.item.picture"),
    }
    assert not mistakes(nodes)
    (found,) = mistakes(nodes | {"bad": resize("best.item.name")})
    assert found.detail == '`bad.image` (image.resize@1) wants image/*, `best.item.name` gives one of "a", "b"'
    (found,) = mistakes(nodes | {"bad": resize("best.item.title")})
    assert found.code == "unknown-output"


def test_an_open_object_keeps_what_is_known_of_it() -> None:
    inputs = {"lists": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "integer"}}}}
    nodes = {
        "zip": {"type": "list.zip@1", "inputs": {"lists": {"$from": "inputs.lists"}}},
        "best": best({"$from": "zip.items"}),
    }
    assert mistakes(nodes | {"shout": shout("best.item.any")}, inputs=inputs)
    assert not mistakes(nodes | {"shout": shout("best.item.any")}, inputs={"lists": {"type": "object"}})
    assert not mistakes(nodes | {"shout": shout("best.item.any")}, inputs={"lists": {}})


def test_a_property_is_followed() -> None:
    nodes = {"name": {"type": "value.name@1", "inputs": {"of": {"name": 5}}}, "shout": shout("name.name")}
    (found,) = mistakes(nodes)
    assert "`name.name` gives 5" in found.detail


def test_any_of_two() -> None:
    def chosen(then: Any, *otherwise: Any) -> dict[str, Any]:
        given = {"then": then} | ({"otherwise": otherwise[0]} if otherwise else {})
        return MADE | {"choose": {"type": "value.choose@1", "inputs": given}, "big": resize("choose.value")}

    assert not mistakes(chosen({"$from": "one.image"}, {"$from": "two.image"}))
    assert not mistakes(chosen({"$from": "one.image"}, 5))
    assert not mistakes(chosen(5))  # what `otherwise` gives is not known
    (found,) = mistakes(chosen(5, "x"))
    assert 'gives one of 5, "x"' in found.detail


def test_an_input_may_follow_another() -> None:
    def append(added: Any, items: Any = BOTH) -> dict[str, Any]:
        say = {"type": "tts.say@1", "inputs": {"text": "a"}}
        return MADE | {"say": say, "add": {"type": "list.append@1", "inputs": {"items": items, "value": added}}}

    assert not mistakes(append({"$from": "one.image"}))
    (found,) = mistakes(append({"$from": "say.wav"}))
    assert found.detail == "`add.value` (list.append@1) wants image/*, `say.wav` gives audio/wav"
    (found,) = mistakes(append("x", [1, 2]))
    assert (found.code, found.pointer) == ("bad-literal", "/nodes/add/inputs/value")
    assert not mistakes(append("c", ["a", "b"]))
    assert not mistakes(append(2.5, [1, 2]))
    assert not mistakes(append("c", []))
    assert not mistakes(append("c", [None]))


def test_a_manifest_may_be_odd() -> None:
    assert not mistakes({"odd": {"type": "list.odd@1"}, "a": resize("odd.a"), "b": play("odd.b")})


def test_handles_are_told_once_and_nothing_follows_from_them() -> None:
    nodes = {
        "words": {"type": "text.encode@1", "inputs": {"prompt": "a"}},
        "noise": {"type": "image.sample@1", "inputs": {"conditioning": {"$from": "words.conditioning"}}},
        "best": best([{"$from": "noise.latents"}]),
        "big": resize("best.item"),
    }
    assert [found.code for found in mistakes(nodes)] == ["handle-crosses"]


def test_a_mistake_is_told_once() -> None:
    nodes = {"best": best([{"$from": "nobody.image"}, {"$from": "inputs.none"}]), "big": resize("best.item")}
    assert sorted(found.code for found in mistakes(nodes)) == ["unknown-input", "unknown-node"]


def test_circles_end() -> None:
    nodes = {
        "a": best({"$from": "c.value"}),
        "b": {"type": "value.same@1", "inputs": {"value": [{"$from": "a.item"}, {"$from": "b.value"}]}},
        "c": {"type": "value.choose@1", "inputs": {"then": {"$from": "b.value"}, "otherwise": {"$from": "c.value"}}},
        "big": resize("c.value"),
    }
    assert {found.code for found in mistakes(nodes)} == {"cycle", "self-reference"}


def chain(kind: str, length: int, first: Any) -> dict[str, Any]:
    """Each node given what the one before it gives, in the order in which it is hardest to follow."""
    nodes = {"n0": {"type": kind, "inputs": {"items": first}}}
    for at in range(1, length):
        nodes[f"n{at}"] = {"type": kind, "inputs": {"items": {"$from": f"n{at - 1}.items"}}}
    return dict(reversed(nodes.items()))


@pytest.mark.parametrize("kind", ["list.keep@1", "list.chunk@1"])
def test_a_long_chain_is_followed_without_recursion_and_each_node_twice_at_most(kind: str) -> None:
    nodes = MADE | chain(kind, 1900, BOTH)
    assert not mistakes(nodes)
    scope = Scope(nodes, {}, WITH, Report())
    looked: Counter[str] = Counter()

    def counting(reference: Reference) -> Shape | None:
        looked[reference.text] += 1
        return scope.look(reference)

    scope.following = Following(nodes, counting)
    assert scope.shape(Reference("n1899", "items", (), "")) is not None
    assert len(looked) == 1901
    assert max(looked.values()) <= 2


def test_the_end_of_a_long_chain_is_known() -> None:
    ends = {"best": best({"$from": "n1899.items"}), "play": play("best.item")}
    assert [found.code for found in mistakes(MADE | chain("list.keep@1", 1900, BOTH) | ends)] == ["type-mismatch"]


@pytest.mark.parametrize(
    "wrapped", [lambda of: {"a": of, "b": of}, lambda of: [of, of, 1], lambda of: [of], lambda of: {"$present": [of]}]
)
def test_types_do_not_grow_without_end(wrapped: Any) -> None:
    nodes: dict[str, Any] = {"n0": {"type": "value.same@1", "inputs": {"value": 1}}}
    for at in range(1, 1500):
        nodes[f"n{at}"] = {"type": "value.same@1", "inputs": {"value": wrapped({"$from": f"n{at - 1}.value"})}}
    nodes["shout"] = shout("n1499.value")
    scope = Scope(dict(reversed(nodes.items())), {}, WITH, Report())
    for at in range(1500):
        shape = scope.shape(Reference(f"n{at}", "value", (), ""))
        assert shape is not None
        parts, depth = size_of(shape.schema)
        assert parts <= MAX_PARTS
        assert depth <= 2 * MAX_DEPTH + 1


KNOWN = {
    "a.image": Shape("a.image", {"artifact": "image/png"}),
    "s.latents": Shape("s.latents", handle="latents"),
    "inputs.x": Shape("inputs.x", {"type": "object", "properties": {"k": {"type": "integer"}}}),
}


def typed(given: Any) -> Any:
    return schema_of(given, lambda reference: KNOWN.get(f"{reference.owner}.{reference.name}")).schema


@pytest.mark.parametrize(
    ("given", "schema"),
    [
        ({"$from": "a.image"}, {"artifact": "image/png"}),
        ({"$from": "b.image"}, {}),
        ({"$from": 5}, {}),
        ({"$expr": "inputs.x.k"}, {"type": "integer"}),
        ({"$expr": " a.image.size "}, {"type": "integer"}),
        ({"$expr": "inputs.x.k+1"}, {}),
        ({"$expr": "a.image.length"}, {}),
        ({"$first": [{"$from": "a.image"}, {"$from": "a.image"}]}, {"artifact": "image/png"}),
        ({"$first": [{"$from": "a.image"}, {"$from": "b.image"}]}, {}),
        (
            {"$present": [{"$from": "a.image"}]},
            {"type": "array", "items": {"artifact": "image/png"}, "maxItems": 1},
        ),
        ({"$literal": {"$from": "a.image"}}["$literal"], {"artifact": "image/png"}),
        ({"$literal": 5}, {"type": "integer", "const": 5}),
        ({"$secret": "key"}, {"type": "string"}),
        (None, {"type": "null", "const": None}),
        ([], {"type": "array", "minItems": 0, "maxItems": 0}),
        (
            [1, True, 1.0],
            {
                "type": "array",
                "minItems": 3,
                "maxItems": 3,
                "items": {"type": ["boolean", "integer", "number"], "enum": [1, True, 1.0]},
            },
        ),
        (
            list(range(20)),
            {"type": "array", "minItems": 20, "maxItems": 20, "items": {"type": ["integer"]}},
        ),
        ("x" * 300, {"type": "string", "minLength": 300, "maxLength": 300}),
    ],
)
def test_types_of_values(given: Any, schema: Any) -> None:
    assert typed(given) == schema


def test_a_handle_in_a_value_is_told() -> None:
    for given in ({"$from": "s.latents"}, [{"$from": "s.latents"}], {"a": {"$first": [{"$from": "s.latents"}]}}):
        shape = schema_of(given, lambda reference: KNOWN.get(f"{reference.owner}.{reference.name}"))
        assert (shape.handle, shape.source) == ("latents", "s.latents")


def test_reading_a_value_is_bounded() -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH + 20):
        deep = [deep]
    assert "const" not in str(typed(deep))
    wide = [[number] for number in range(5000)]
    assert typed(wide) == {"type": "array", "minItems": 5000, "maxItems": 5000, "items": {}}
    assert typed({"$literal": wide})["items"] == {}
    shared = Budget(1000)
    types = [schema_of([[1]] * 100, lambda _: None, budget=shared).schema for _ in range(12)]
    assert types[0]["items"] != {}
    assert types[-1] == {}


@pytest.mark.parametrize(
    ("schema", "wide"),
    [
        ({"type": "integer", "const": 5}, {"type": "number"}),
        ({"artifact": "image/png"}, {"artifact": "image/*"}),
        ({"enum": ["a", None]}, {"type": ["null", "string"]}),
        (
            {"type": "array", "items": {"type": "string", "const": "a"}, "maxItems": 1},
            {"type": "array", "items": {"type": "string"}},
        ),
        ({"anyOf": [{"type": "integer"}, {"type": "number", "minimum": 1}]}, {"type": "number"}),
        ({"allOf": [{}]}, {}),
        (True, {}),
    ],
)
def test_widening(schema: Any, wide: Any) -> None:
    assert widened(schema) == wide


def built_in() -> Catalog:
    path = Path(__file__).parents[2] / "common" / "schemas" / "derived" / "builtin-nodes.json"
    types = [NodeType.model_validate(found) for found in json.loads(path.read_text())]
    queues = {found.type: frozenset([found.queue] if found.queue else []) for found in types}
    return catalog(types={found.type: found for found in types}, queues=queues)


BUILT_IN = built_in()
VARIANTS = {
    "type": "flow.map@1",
    "over": {"$expr": "inputs.offsets"},
    "with": {"prompt": {"$from": "inputs.prompt"}},
    "body": {
        "inputs": {"item": {"type": "integer"}, "prompt": {"type": "string"}},
        "nodes": {
            "image": {
                "type": "image.generate@1",
                "inputs": {"prompt": {"$from": "inputs.prompt"}, "seed": {"$from": "inputs.item"}},
            },
            "score": {"type": "image.score@1", "inputs": {"image": {"$from": "image.image"}}},
        },
        "outputs": {"image": {"$from": "image.image"}, "score": {"$from": "score.value"}},
    },
}
INPUTS = {"offsets": {"type": "array", "items": {"type": "integer"}}, "prompt": {"type": "string"}}


def of_vars(kind: str, port: str = "items", **inputs: Any) -> dict[str, Any]:
    return {"type": kind, "inputs": {port: {"$from": "vars.image"}, **inputs}}


GIVEN_LISTS: dict[str, tuple[dict[str, Any], str]] = {
    "best": (of_vars("list.best@1", by={"$from": "vars.score"}), "node.item"),
    "top": (of_vars("list.top@1", by={"$from": "vars.score"}, count=3), "node.items.0"),
    "sort": (of_vars("list.sort@1", by={"$from": "vars.score"}), "node.items.0"),
    "filter": (of_vars("list.filter@1", keep=[True, False]), "node.items.0"),
    "compact": (of_vars("list.compact@1"), "node.items.0"),
    "unique": (of_vars("list.unique@1"), "node.items.0"),
    "pick": (of_vars("list.pick@1", index=-1), "node.item"),
    "pick several": (of_vars("list.pick@1", indices=[0, 1]), "node.items.1"),
    "slice": (of_vars("list.slice@1", stop=2), "node.items.0"),
    "chunk": (of_vars("list.chunk@1", size=4), "node.chunks.0.1"),
    "append": (of_vars("list.append@1", value={"$from": "vars.image.0"}), "node.items.0"),
    "repeat": (of_vars("list.repeat@1", port="value", count=2), "node.items.0.0"),
    "concat": (
        {"type": "list.concat@1", "inputs": {"lists": [{"$from": "vars.image"}, {"$from": "vars.image"}]}},
        "node.items.0",
    ),
    "zip": (
        {"type": "list.zip@1", "inputs": {"lists": {"a": {"$from": "vars.image"}, "b": {"$from": "vars.score"}}}},
        "node.items.0.a",
    ),
    "product": (
        {"type": "list.product@1", "inputs": {"lists": {"a": {"$from": "vars.image"}, "b": [1, 2]}}},
        "node.items.0.a",
    ),
    "const": ({"type": "value.const@1", "inputs": {"value": {"a": {"$from": "vars.image"}}}}, "node.value.a.0"),
    "choose": (
        {
            "type": "value.choose@1",
            "inputs": {
                "condition": True,
                "then": {"$from": "vars.image.0"},
                "otherwise": {"$from": "vars.image.1"},
            },
        },
        "node.value",
    ),
}


@pytest.mark.parametrize(("node", "reference"), GIVEN_LISTS.values(), ids=GIVEN_LISTS)
def test_built_in_nodes_keep_the_type_of_what_a_map_makes(node: dict[str, Any], reference: str) -> None:
    nodes = {"vars": VARIANTS, "node": node}
    big = {"type": "image.resize@1", "inputs": {"image": {"$from": reference}, "scale": 2}}
    assert not mistakes(nodes | {"big": big}, BUILT_IN, inputs=INPUTS)
    join = {"type": "text.join@1", "inputs": {"parts": [{"$from": reference}]}}
    (found,) = mistakes(nodes | {"join": join}, BUILT_IN, inputs=INPUTS)
    assert found.code == "type-mismatch"
    assert found.detail == f"`join.parts` (text.join@1) wants a string or null, `{reference}` gives image/*"


def test_what_is_appended_must_be_like_the_others() -> None:
    node = of_vars("list.append@1", value={"$from": "vars.score.0"})
    (found,) = mistakes({"vars": VARIANTS, "node": node}, BUILT_IN, inputs=INPUTS)
    assert found.detail == "`node.value` (list.append@1) wants image/*, `vars.score.0` gives a number"
