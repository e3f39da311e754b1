"""langgraph.v1 graphs, and what becomes of them."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spindle_common.problems import InvalidWorkflow
from spindle_control.compiler import check
from spindle_control.importers import Imported, Options, import_document
from support.offered import offered

Json = dict[str, Any]
CATALOG = offered("tiny")
SERVICES: Json = {
    "script.write": {"type": "text.template@1", "params": {"words": "values"}, "outputs": {"script": "text"}},
    "image.render": {
        "type": "image.generate@1",
        "params": {"text": "prompt"},
        "outputs": {"picture": "image"},
        "defaults": {"steps": 4},
    },
    "image.enlarge": {"type": "image.resize@1"},
}


def graph(**changes: Any) -> Json:
    usual: Json = {
        "schema": "langgraph.v1",
        "workflowId": "greeting",
        "context": {"subject": "circle", "seed": 7},
        "nodes": [
            {
                "id": "Script-1",
                "name": "Write a script",
                "service": "script.write",
                "plane": "node",
                "params": {"template": "a {what}", "words": {"what": {"$context": "subject"}}},
            },
            {
                "id": "render",
                "service": "image.render",
                "plane": "python",
                "input": {"text": {"$from": "Script-1.script"}, "seed": {"$context": "seed"}},
            },
            {"id": "enlarge", "service": "image.enlarge", "plane": "python", "params": {"scale": 2}},
        ],
        "edges": [
            {"from": "Script-1", "to": "render", "kind": "data"},
            {"from": "render", "to": "enlarge", "kind": "normal"},
            {"from": "Script-1", "to": "enlarge", "kind": "control"},
        ],
    }
    return usual | changes


def changed(at: int, **changes: Any) -> Json:
    document = graph()
    document["nodes"][at] |= changes
    return document


def imported(document: Json, services: Json = SERVICES) -> Imported:
    found = import_document(document, options=Options(services=services), catalog=CATALOG)
    check(found.workflow, CATALOG)
    return found


def refused(document: Any, services: Json = SERVICES) -> list[tuple[str, str]]:
    with pytest.raises(InvalidWorkflow) as problem:
        import_document(document, "langgraph", Options(services=services), CATALOG)
    return [(each.pointer, each.code) for each in problem.value.errors if each.severity == "error"]


def test_the_graph_becomes_this() -> None:
    found = imported(graph())
    assert found.dialect == "langgraph"
    assert found.workflow == {
        "schema": "spindle.workflow/v1",
        "name": "greeting",
        "inputs": {
            "subject": {"type": "string", "default": "circle", "description": "`subject` of the context."},
            "seed": {"type": "integer", "default": 7, "description": "`seed` of the context."},
        },
        "nodes": {
            "script_1": {
                "type": "text.template@1",
                "title": "Write a script",
                "inputs": {"template": "a {what}", "values": {"what": {"$from": "inputs.subject"}}},
            },
            "render": {
                "type": "image.generate@1",
                "inputs": {"steps": 4, "prompt": {"$from": "script_1.text"}, "seed": {"$from": "inputs.seed"}},
            },
            "enlarge": {
                "type": "image.resize@1",
                "after": ["script_1"],
                "inputs": {"scale": 2, "image": {"$from": "render.image"}},
            },
        },
        "outputs": {"enlarge_image": {"$from": "enlarge.image"}},
    }


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (graph(schema="langgraph.v2"), ("/schema", "unknown-dialect")),
        (graph(nodes=[]), ("/nodes", "missing-key")),
        (graph(nodes={}), ("/nodes", "missing-key")),
        (graph(edges={}), ("/edges", "wrong-type")),
        (graph(context=[]), ("/context", "wrong-type")),
        (changed(1, id=3), ("/nodes/1", "bad-id")),
        (changed(1, id="enlarge"), ("/nodes/2/id", "bad-id")),
        (changed(1, service="video.render"), ("/nodes/1/service", "unknown-service")),
        (changed(1, plane="node"), ("/nodes/1/plane", "wrong-plane")),
        (changed(0, plane="python"), ("/nodes/0/plane", "wrong-plane")),
        (changed(0, plane="gpu"), ("/nodes/0/plane", "wrong-plane")),
        (changed(1, params=[]), ("/nodes/1/params", "wrong-type")),
        (changed(1, params={"width": 33}), ("/nodes/1/params/width", "bad-literal")),
        (changed(1, params={"nothing": 1}), ("/nodes/1/params/nothing", "unknown-port")),
        (changed(1, input={"text": {"$from": "nobody.x"}}), ("/nodes/1/input/text", "bad-link")),
        (changed(1, input={"text": {"$from": 4}}), ("/nodes/1/input/text", "bad-link")),
        (changed(1, input={"text": {"$context": "nothing"}}), ("/nodes/1/input/text", "bad-link")),
        (graph(edges=[{"from": "a", "to": "render"}]), ("/edges/0/from", "bad-link")),
        (graph(edges=[7]), ("/edges/0", "wrong-type")),
        (graph(edges=[{"from": "render", "to": "enlarge", "kind": "blue"}]), ("/edges/0/kind", "bad-literal")),
        (graph(edges=[*graph()["edges"], {"from": "enlarge", "to": "Script-1"}]), ("/nodes/0", "cycle")),
    ],
)
def test_refusals_point_at_what_is_wrong(document: Json, expected: tuple[str, str]) -> None:
    assert expected in refused(document)


@pytest.mark.parametrize("services", [{"a": {}}, {"a": {"type": "no type"}}, {"a": {"type": "a.b@1", "x": 1}}])
def test_mappings_have_a_schema(services: Json) -> None:
    assert refused(graph(), services)[0][1] == "bad-mapping"


def test_a_type_that_nobody_offers_is_told() -> None:
    services = SERVICES | {"image.enlarge": {"type": "video.render@1"}}
    assert ("/nodes/2", "unknown-type") in refused(graph(), services)


def test_without_a_catalog_it_is_translated_unchecked() -> None:
    found = import_document(graph(), options=Options(services=SERVICES))
    assert [note.code for note in found.notes] == ["unchecked"]
    assert found.workflow["nodes"]["enlarge"]["after"] == ["render", "script_1"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from(["render", "Script-1.script", "$from", "data", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["$from", "$context", "id", "from", "to", "text", "seed"]), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(max_examples=300, deadline=1000, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["nodes", "edges", "context", "workflowId"]), st.integers(0, 2), JSON, st.data())
def test_any_json_becomes_a_workflow_or_a_problem(key: str, at: int, value: Any, data: st.DataObject) -> None:
    document = graph()
    if key in {"nodes", "edges"} and data.draw(st.booleans()):
        document[key][at] = document[key][at] | {data.draw(st.sampled_from(sorted(document[key][at]))): value}
    else:
        document[key] = value
    found = None
    with suppress(InvalidWorkflow):
        found = import_document(document, options=Options(services=SERVICES), catalog=CATALOG)
    if found is not None:
        check(found.workflow, CATALOG)
