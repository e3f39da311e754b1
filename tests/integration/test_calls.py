"""What a document calls is gathered before it is checked: pinned to versions, through others, within bounds."""

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spindle_common.digests import canonical, digest_of
from spindle_common.problems import InvalidWorkflow
from spindle_control import calls
from spindle_control.calls import calls_in, gather, reference_of
from spindle_control.conditions import Condition
from spindle_control.store import Store
from spindle_control.stored import StoredWorkflows, Version

Json = dict[str, Any]


@pytest.fixture
async def stored(tmp_path: Path) -> AsyncIterator[StoredWorkflows]:
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'spindle.db'}")
    yield StoredWorkflows(store)
    await store.close()


def calling(*references: object, **more: Any) -> Json:
    nodes = {f"c{n}": {"type": "flow.call@1", "workflow_ref": each} for n, each in enumerate(references)}
    return {"schema": "spindle.workflow/v1", "nodes": nodes, **more}


async def put(stored: StoredWorkflows, name: str, document: Json, tenant: str = "default") -> None:
    text = canonical(document)
    await stored.put(tenant, Version(name, 0, digest_of(text), len(text), 0, None, document), Condition(), 1000)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("poster", ("poster", None)),
        ("poster@3", ("poster", 3)),
        ("0-a_b@999999999", ("0-a_b", 999_999_999)),
        *[
            (text, None)
            for text in ("", "@3", "poster@", "poster@0", "poster@01", "Poster", "a@1@2", "a" * 65, "a@1\n")
        ],
        *[(text, None) for text in ("poster@9999999999", "poster@٣", None, 3, ["poster"])],
    ],
)
def test_references_are_read_strictly(text: object, read: object) -> None:
    assert reference_of(text) == read


async def test_a_document_that_calls_nothing_is_left_alone(stored: StoredWorkflows) -> None:
    document = calling() | {"nodes": {"a": {"type": "other.call@1", "workflow_ref": "poster"}}}
    found = await gather(stored, "default", document)
    assert found.document is document
    assert found.library == {}


async def test_calls_are_found_in_bodies_and_followed_through_others(stored: StoredWorkflows) -> None:
    await put(stored, "deep", calling(v=1))
    await put(stored, "middle", calling("deep@1"))
    await put(stored, "side", calling())
    body = {"nodes": {"again": {"type": "flow.loop@1", "body": calling("side@1")}}}
    document = calling("middle@1", "nothing@7") | {}
    document["nodes"]["vars"] = {"type": "flow.map@1", "body": body}
    found = await gather(stored, "default", document)
    assert found.document is document
    assert found.library.keys() == {"middle@1", "deep@1", "side@1"}
    assert found.library["deep@1"] == calling(v=1)


async def test_the_newest_version_is_pinned_and_the_document_given_stays_as_it_was(stored: StoredWorkflows) -> None:
    for number in range(3):
        await put(stored, "poster", calling(v=number))
    document = calling("poster", "poster@1", "unknown")
    document["nodes"]["vars"] = {"type": "flow.map@1", "body": calling("poster")}
    before = copy.deepcopy(document)
    found = await gather(stored, "default", document)
    assert document == before
    assert [node["workflow_ref"] for node in found.document["nodes"].values() if "workflow_ref" in node] == [
        "poster@3",
        "poster@1",
        "unknown",
    ]
    assert found.document["nodes"]["vars"]["body"] == calling("poster@3")
    assert found.library == {"poster@3": calling(v=2), "poster@1": calling(v=0)}


async def test_a_hidden_workflow_is_called_by_number_only(stored: StoredWorkflows) -> None:
    await put(stored, "poster", calling())
    await stored.hide("default", "poster", Condition())
    found = await gather(stored, "default", calling("poster", "poster@1"))
    assert found.library.keys() == {"poster@1"}
    assert found.document["nodes"]["c0"]["workflow_ref"] == "poster"


async def test_a_tenant_calls_only_its_own(stored: StoredWorkflows) -> None:
    await put(stored, "poster", calling(), tenant="other")
    assert (await gather(stored, "default", calling("poster@1", "poster"))).library == {}


async def test_workflows_that_call_each_other_end_the_walk(stored: StoredWorkflows) -> None:
    """They cannot be stored by the API, since neither can be first."""
    await put(stored, "a", calling("b@1"))
    await put(stored, "b", calling("a@1", "b@1"))
    assert (await gather(stored, "default", calling("a@1"))).library.keys() == {"a@1", "b@1"}


async def test_too_many_or_too_large_calls_are_a_mistake_with_its_place(
    stored: StoredWorkflows, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(70):
        await put(stored, f"w{number}", calling(v=number))
    within = calling(*(f"w{number}@1" for number in range(64)))
    assert len((await gather(stored, "default", within)).library) == 64
    with pytest.raises(InvalidWorkflow) as refused:
        await gather(stored, "default", calling(*(f"w{number}@1" for number in range(65))))
    (wrong,) = refused.value.errors
    assert (wrong.code, wrong.pointer) == ("too-many-calls", "/nodes/c0/workflow_ref")
    with pytest.raises(InvalidWorkflow):
        await gather(stored, "default", calling(*(f"unknown{number}" for number in range(40_000))))
    monkeypatch.setattr(calls, "MOST_BYTES", 100)
    with pytest.raises(InvalidWorkflow, match="calls too much"):
        await gather(stored, "default", within)


ANY = st.recursive(
    st.none() | st.sampled_from(["flow.call@1", "poster", "poster@1", "a"]) | st.integers(),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(st.sampled_from(["nodes", "body", "type", "workflow_ref", "a"]), each, max_size=5)
    ),
    max_leaves=30,
)


@given(document=ANY)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_whatever_a_document_is_the_walk_ends(stored: StoredWorkflows, document: Any) -> None:
    before = canonical(document)
    found = await gather(stored, "default", document)
    assert canonical(found.document) == before
    assert found.library == {}


def test_a_very_deep_document_is_walked() -> None:
    document = calling("poster")
    for _ in range(5000):
        document = {"nodes": {"a": {"type": "flow.map@1", "body": document}}}
    assert [name for _, name, _ in calls_in(document)] == ["poster"]
