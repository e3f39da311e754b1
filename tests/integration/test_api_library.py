"""Stored workflows over HTTP: stored under conditions, shown, compared, hidden, brought back, run."""

import asyncio
import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import jsonpatch
import pytest

from spindle_common.digests import digest
from spindle_control.api_keys import ApiKeys
from support.control import API, Control, serving
from support.documents import noop, sleeper
from support.redis_server import RedisServer

SHELF = f"{API}/workflows"
RUNS = f"{API}/runs"
Json = dict[str, Any]


def poster(number: int = 1, **more: Any) -> Json:
    """A document that gives a number back."""
    node = {"type": "test.noop@1", "inputs": {"in_x": 1, "value": number}}
    document = {"schema": "spindle.workflow/v1", "name": "poster", "nodes": {"a": node}, **more}
    return document | {"outputs": {"value": {"$from": "a.value"}}}


async def put(control: Control, document: Json, name: str = "poster", **headers: str) -> httpx.Response:
    given = {name.replace("_", "-"): text for name, text in headers.items()}
    return await control.http.put(f"{SHELF}/{name}", json=document, headers=given)


async def get(control: Control, path: str, status: int = 200, **headers: str) -> Json:
    given = {name.replace("_", "-"): text for name, text in headers.items()}
    response = await control.http.get(f"{SHELF}/{path}", headers=given)
    assert response.status_code == status, response.text
    if status >= 400:
        assert response.headers["Content-Type"] == "application/problem+json"
    found: Json = response.json() if response.content else {}
    return found


async def ended(control: Control, response: httpx.Response) -> Json:
    assert response.status_code == 202, response.text
    where = response.headers["Location"]
    found: Json = (await control.http.get(where, params={"wait": "30s"}, timeout=40)).json()
    return found


async def test_a_workflow_is_stored_shown_and_exported(staffed: Control) -> None:
    document = poster(description="It makes posters.")
    response = await put(staffed, document)
    record = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"{SHELF}/poster?version=1"
    assert response.headers["ETag"] == f'"{digest(document)}"'
    assert (record["name"], record["version"], record["digest"]) == ("poster", 1, digest(document))
    assert record["workflow"] == document
    assert await get(staffed, "poster") == record == await get(staffed, "poster?version=1")
    assert await get(staffed, "poster/document") == document
    again = await put(staffed, document)
    assert (again.status_code, again.json()) == (200, record)
    second = await put(staffed, poster(2))
    assert (second.status_code, second.json()["version"]) == (201, 2)
    assert (await get(staffed, "poster"))["version"] == 2
    assert await get(staffed, "poster/document?version=1") == document
    for path in ("poster?version=3", "poster/document?version=3", "flyer", "flyer/versions", "flyer/document"):
        assert (await get(staffed, path, 404))["type"] == "urn:spindle:problem:not-found"
    for path in ("poster?version=0", "poster?version=x", "poster?version=9999999999", "Poster", "a%00b"):
        await get(staffed, path, 400)


async def test_a_name_is_added_where_it_is_missing_and_must_agree_where_it_is_not(staffed: Control) -> None:
    bare = poster()
    del bare["name"]
    stored = (await put(staffed, bare, "flyer")).json()["workflow"]
    assert stored == poster() | {"name": "flyer"}
    assert list(stored)[:2] == ["schema", "name"]
    wrong = poster() | {"nodes": {"a": {"type": "no.such@1"}, "b": {"type": "test.noop@1", "when": "1 +"}}}
    refused = await put(staffed, wrong, "flyer")
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:spindle:problem:invalid-workflow")
    pointers = {(each["pointer"], each["code"]) for each in refused.json()["errors"]}
    assert {("/name", "other-name"), ("/nodes/a/type", "unknown-type"), ("/nodes/b/when", "bad-expression")} <= pointers
    for other in ("poster", 7, None):
        refused = await put(staffed, poster() | {"name": other}, "flyer")
        assert [each["code"] for each in refused.json()["errors"]] == ["other-name"]
    assert (await get(staffed, "flyer"))["version"] == 1


async def test_conditions_guard_against_lost_updates(staffed: Control) -> None:
    assert (await put(staffed, poster(), If_Match="*")).status_code == 412
    first = await put(staffed, poster(), If_None_Match="*")
    assert first.status_code == 201
    stale = await put(staffed, poster(), If_None_Match="*")
    assert (stale.status_code, stale.json()["type"]) == (412, "urn:spindle:problem:precondition-failed")
    etag = first.headers["ETag"]
    racing = await asyncio.gather(*(put(staffed, poster(number), If_Match=etag) for number in range(2, 8)))
    assert sorted(response.status_code for response in racing) == [201] + [412] * 5
    assert (await get(staffed, "poster"))["version"] == 2
    newest = (await staffed.http.get(f"{SHELF}/poster")).headers["ETag"]
    assert (await put(staffed, poster(9), If_Match=etag)).status_code == 412
    assert (await put(staffed, poster(9), If_Match=f"{etag}, {newest}")).status_code == 201
    for wrong in ("sha256:1", "", '"a" "b"'):
        refused = await put(staffed, poster(), If_Match=wrong)
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, "bad-etag")


async def test_who_has_it_is_told_so(staffed: Control) -> None:
    etag = (await put(staffed, poster())).headers["ETag"]
    for path in ("poster", "poster?version=1", "poster/document", "poster/document?version=1"):
        response = await staffed.http.get(f"{SHELF}/{path}", headers={"If-None-Match": f'"x", {etag}'})
        assert (response.status_code, response.content, response.headers["ETag"]) == (304, b"", etag)
        assert (await staffed.http.get(f"{SHELF}/{path}", headers={"If-None-Match": '"x"'})).status_code == 200


async def test_a_hidden_workflow_keeps_its_versions_and_comes_back_with_the_next_number(staffed: Control) -> None:
    etag = (await put(staffed, poster())).headers["ETag"]
    await put(staffed, noop(), "noop")
    refused = await staffed.http.delete(f"{SHELF}/poster", headers={"If-Match": '"sha256:0"'})
    assert refused.status_code == 412
    hidden = await staffed.http.delete(f"{SHELF}/poster", headers={"If-Match": etag})
    assert (hidden.status_code, hidden.json()["hidden"], hidden.json()["version"]) == (200, True, 1)
    assert (await staffed.http.delete(f"{SHELF}/poster")).status_code == 404
    await get(staffed, "poster", 404)
    await get(staffed, "poster:diff", 404)
    assert [each["name"] for each in (await staffed.http.get(SHELF)).json()["workflows"]] == ["noop"]
    assert (await get(staffed, "poster?version=1"))["workflow"] == poster()
    assert [each["version"] for each in (await get(staffed, "poster/versions"))["versions"]] == [1]
    assert (await staffed.http.post(f"{SHELF}/poster:execute", json={})).status_code == 404
    run = await ended(staffed, await staffed.http.post(f"{SHELF}/poster:execute", json={"version": 1}))
    assert (run["status"], run["outputs"]) == ("completed", {"value": 1})
    back = await put(staffed, poster(), If_None_Match="*")
    assert (back.status_code, back.json()["version"]) == (201, 2)


async def test_workflows_and_versions_are_listed_page_by_page(staffed: Control) -> None:
    for number, name in enumerate(("a", "b", "c", "b")):
        await put(staffed, poster(number) | {"name": name, "description": f"{number}"}, name)
        await asyncio.sleep(0.002)
    first = (await staffed.http.get(SHELF, params={"limit": 2})).json()
    rest = (await staffed.http.get(SHELF, params={"limit": 2, "after": first["next"]})).json()
    listed = first["workflows"] + rest["workflows"]
    assert [(each["name"], each["version"], each["description"]) for each in listed] == [
        ("b", 2, "3"),
        ("c", 1, "2"),
        ("a", 1, "0"),
    ]
    assert listed[0]["created_at"] < listed[0]["updated_at"]
    assert rest["next"] is None
    newest = await get(staffed, "b/versions?limit=1")
    oldest = await get(staffed, f"b/versions?limit=1&after={newest['next']}")
    assert [each["version"] for each in newest["versions"] + oldest["versions"]] == [2, 1]
    assert "workflow" not in newest["versions"][0]
    for path in ("?after=x", "/b/versions?after=x", "?limit=0"):
        assert (await staffed.http.get(SHELF + path)).status_code == 400


async def test_versions_are_compared(staffed: Control) -> None:
    one, two = poster(1), poster(2) | {"on_failure": "stop"}
    two["nodes"]["b"] = {"type": "test.noop@1"}
    for document in (one, two, noop() | {"name": "poster"}):
        await put(staffed, document)
    found = await get(staffed, "poster:diff?from=1&to=2")
    assert found["nodes"] == {"added": ["b"], "removed": [], "changed": ["a"]}
    assert (found["from"], found["to"]["version"]) == ({"version": 1, "digest": digest(one)}, 2)
    assert jsonpatch.apply_patch(one, found["patch"]) == two
    last = await get(staffed, "poster:diff")
    assert (last["from"]["version"], last["to"]["version"]) == (2, 3)
    assert (await get(staffed, "poster:diff?from=2&to=1"))["nodes"]["removed"] == ["b"]
    await get(staffed, "poster:diff?from=4", 404)
    await get(staffed, "poster:diff?to=0", 400)


# Runs -----------------------------------------------------------------------------------------------------------------


async def test_a_run_names_a_stored_workflow_and_is_of_its_version(staffed: Control) -> None:
    for number in (1, 2):
        await put(staffed, poster(number))
    for reference, version in (("poster@1", 1), ("poster", 2)):
        run = await ended(staffed, await staffed.http.post(RUNS, json={"workflow_ref": reference}))
        assert run["outputs"] == {"value": version}
        assert run["workflow"] == {"name": "poster", "version": version, "digest": digest(poster(version))}
    executed = await ended(staffed, await staffed.http.post(f"{SHELF}/poster:execute", json={"priority": 3}))
    assert (executed["outputs"], executed["workflow"]["version"], executed["priority"]) == ({"value": 2}, 2, 3)
    again = await staffed.http.post(f"{RUNS}/{executed['id']}:retry")
    repeated = await ended(staffed, again)
    assert (repeated["workflow"], repeated["parent"]) == (executed["workflow"], executed["id"])
    assert repeated["nodes"]["a"]["reused"]
    page = (await staffed.http.get(RUNS)).json()
    assert [run["workflow"].get("version") for run in page["runs"]] == [2, 2, 2, 1]


async def test_inputs_are_bound_as_the_stored_document_says(staffed: Control) -> None:
    document = poster(inputs={"n": {"type": "integer"}})
    document["nodes"]["a"]["inputs"]["value"] = {"$from": "inputs.n"}
    await put(staffed, document)
    run = await ended(staffed, await staffed.http.post(f"{SHELF}/poster:execute", json={"inputs": {"n": 5}}))
    assert run["outputs"] == {"value": 5}
    for body in ({}, {"inputs": {"n": "x"}}, {"inputs": {"m": 1}}):
        assert (await staffed.http.post(f"{SHELF}/poster:execute", json=body)).status_code == 422
        checked = await staffed.http.post(f"{SHELF}:validate", json={"workflow_ref": "poster@1", "inputs": {}} | body)
        assert checked.status_code == 422
    checked = await staffed.http.post(f"{SHELF}:validate", json={"workflow_ref": "poster", "inputs": {"n": 1}})
    assert checked.json()["digest"] == digest(document)


async def test_a_repeated_key_gives_the_same_run_whatever_is_newest_by_then(staffed: Control) -> None:
    headers = {"Idempotency-Key": "once"}
    await put(staffed, poster(1))
    first = await staffed.http.post(f"{SHELF}/poster:execute", json={}, headers=headers)
    await put(staffed, poster(2))
    again = await staffed.http.post(f"{SHELF}/poster:execute", json={}, headers=headers)
    assert again.json()["id"] == first.json()["id"]
    assert again.json()["workflow"]["version"] == 1
    await staffed.http.delete(f"{SHELF}/poster")
    hidden = await staffed.http.post(f"{SHELF}/poster:execute", json={}, headers=headers)
    assert (hidden.status_code, hidden.json()["id"]) == (202, first.json()["id"])
    for body in ({"priority": 1}, {"version": 9}):
        assert (await staffed.http.post(f"{SHELF}/poster:execute", json=body, headers=headers)).status_code == 404
    other = await staffed.http.post(f"{SHELF}/poster:execute", json={"version": 2}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (409, "urn:spindle:problem:idempotency-mismatch")


async def test_a_run_names_one_workflow_that_exists(staffed: Control) -> None:
    await put(staffed, poster())
    refusals: list[tuple[Json, int, str]] = [
        ({"workflow_ref": "nothing@1"}, 422, "unknown-workflow"),
        ({"workflow_ref": "nothing"}, 422, "unknown-workflow"),
        ({"workflow_ref": "poster@2"}, 422, "unknown-workflow"),
        ({"workflow_ref": "poster@0"}, 400, "bad-reference"),
        ({"workflow_ref": 3}, 400, "bad-reference"),
        ({"workflow_ref": None}, 400, "bad-reference"),
        ({"workflow_ref": "poster", "workflow": noop()}, 400, "two-workflows"),
        ({"inputs": {}}, 400, "missing-member"),
    ]
    for body, status, code in refusals:
        response = await staffed.http.post(RUNS, json=body)
        assert (response.status_code, response.json()["errors"][0]["code"]) == (status, code), body


async def test_an_execution_is_refused_where_it_cannot_be_read(staffed: Control) -> None:
    await put(staffed, poster())
    bodies: list[Any] = [{"version": 0}, {"version": "1"}, {"version": True}, {"workflow": {}}, {"x": 1}, []]
    for body in bodies:
        response = await staffed.http.post(f"{SHELF}/poster:execute", json=body)
        assert (response.status_code, response.headers["Content-Type"]) == (400, "application/problem+json"), body
    assert (await staffed.http.post(f"{SHELF}/poster:execute", json={"version": 9})).status_code == 404


async def test_runs_of_stored_workflows_survive_an_emptied_redis_while_they_wait(
    tmp_path: Path, quiet_server: RedisServer
) -> None:
    """Nobody drives them: the control has room for none."""
    from spindle_common.queue import connect

    client = connect(quiet_server.url)
    await client.flushall()
    async with serving(tmp_path, quiet_server.url, max_driven_runs=1) as control:
        await control.services.store.save_node_types([SLEEP])
        await control.services.registry.load()
        await put(control, sleeper(30), "sleeper")
        caller = calling("sleeper") | {"outputs": {"v": {"$from": "sub.v"}}}
        assert (await put(control, caller, "caller")).status_code == 201
        ids = [(await control.http.post(f"{SHELF}/caller:execute", json={})).json()["id"] for _ in range(2)]
        plan = await client.hget(f"spindle:run:{ids[1]}", "plan")
        assert "test.sleep@1" in str(plan)
        await client.flushall()
        async with asyncio.timeout(60):
            while not await client.exists(f"spindle:run:{ids[1]}"):
                await asyncio.sleep(0.1)
        assert await client.hget(f"spindle:run:{ids[1]}", "plan") == plan
        row = await control.services.store.run(ids[1])
        assert (row.workflow_version, row.name) == (1, "caller")
    await client.aclose()


SLEEP: Json = {
    "type": "test.sleep@1",
    "inputs": {
        "seconds": {"kind": "value", "schema": {"type": "number"}, "required": True},
        "value": {"kind": "value", "schema": {}, "required": False},
    },
    "outputs": {"value": {"kind": "value", "schema": {}}},
}


# Calls ----------------------------------------------------------------------------------------------------------------


def calling(reference: str, name: str = "caller") -> Json:
    """A document that calls another and gives what that gives."""
    call = {"type": "flow.call@1", "workflow_ref": reference}
    outputs = {"value": {"$from": "sub.value"}}
    return {"schema": "spindle.workflow/v1", "name": name, "nodes": {"sub": call}, "outputs": outputs}


async def test_a_stored_call_is_pinned_so_that_a_version_means_the_same_for_ever(staffed: Control) -> None:
    missing = await put(staffed, calling("poster"), "caller")
    assert (missing.status_code, missing.json()["errors"][0]["code"]) == (422, "unknown-workflow")
    assert missing.json()["errors"][0]["pointer"] == "/nodes/sub/workflow_ref"
    await put(staffed, poster(1))
    first = (await put(staffed, calling("poster"), "caller")).json()
    assert first["workflow"] == calling("poster@1")
    await put(staffed, poster(2))
    assert (await put(staffed, calling("poster@1"), "caller")).status_code == 200
    second = (await put(staffed, calling("poster"), "caller")).json()
    assert (second["version"], second["workflow"]) == (2, calling("poster@2"))
    await staffed.http.delete(f"{SHELF}/poster")
    assert (await put(staffed, calling("poster"), "caller")).status_code == 422
    assert (await put(staffed, calling("poster@2"), "caller")).status_code == 200
    circle = await put(staffed, calling("caller@3"), "caller")
    assert (circle.status_code, circle.json()["errors"][0]["code"]) == (422, "unknown-workflow")


async def test_what_is_called_is_checked_and_planned_with_its_caller(staffed: Control) -> None:
    await put(staffed, poster(1))
    await put(staffed, calling("poster@1", "middle"), "middle")
    for document in (calling("middle"), {"workflow": calling("middle@1")}, {"workflow_ref": "middle"}):
        checked = await staffed.http.post(f"{SHELF}:validate", json=document)
        assert checked.status_code == 200, checked.text
        assert "test.noop@1" in checked.text
    wrong = calling("middle") | {"outputs": {"value": {"$from": "sub.nothing"}}}
    refused = await staffed.http.post(f"{SHELF}:validate", json=wrong)
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "unknown-output")


async def test_a_run_keeps_what_it_called_when_it_was_accepted(staffed: Control) -> None:
    await put(staffed, poster(1))
    await put(staffed, calling("poster"), "caller")
    inline = await staffed.http.post(RUNS, json={"workflow": calling("poster", "inline")})
    await put(staffed, poster(2))
    stored = await staffed.http.post(f"{SHELF}/caller:execute", json={})
    newer = await staffed.http.post(RUNS, json={"workflow": calling("caller", "inline")})
    for response in (inline, stored, newer):
        run = await ended(staffed, response)
        assert (run["status"], run["outputs"]) == ("completed", {"value": 1}), run
    row = await staffed.services.store.run(inline.json()["id"])
    assert row.workflow == calling("poster@1", "inline")
    assert row.workflow_digest == digest(row.workflow)
    await staffed.http.delete(f"{SHELF}/poster")
    again = await ended(staffed, await staffed.http.post(f"{RUNS}/{stored.json()['id']}:retry"))
    assert (again["status"], again["outputs"], again["workflow"]["version"]) == ("completed", {"value": 1}, 1)


async def test_tenants_with_workflows_of_the_same_names_get_their_own(staffed: Control) -> None:
    keys = ApiKeys(staffed.services.settings.keys_file)
    plans = []
    for number, tenant in enumerate(("default", "studio")):
        headers = {"Authorization": f"Bearer {keys.create(tenant, 'k')[1]}"}
        await staffed.http.put(f"{SHELF}/poster", json=poster(number), headers=headers)
        checked = await staffed.http.post(f"{SHELF}:validate", json=calling("poster@1"), headers=headers)
        plans.append(checked.json()["plan"])
    assert plans[0] != plans[1]


# Bounds and owners ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def small(tmp_path: Path, redis_server: RedisServer, staffed: Control) -> AsyncIterator[Control]:
    """A control beside the other one, which knows the same node types, with narrow bounds."""
    assert staffed.url
    settings = {"max_workflow_versions": 2, "max_document_bytes": 4096}
    async with serving(tmp_path / "small", redis_server.url, **settings) as control:
        yield control


async def test_versions_and_sizes_are_bounded(small: Control) -> None:
    assert [(await put(small, poster(number))).status_code for number in range(2)] == [201, 201]
    full = await put(small, poster(9))
    assert (full.status_code, full.json()["type"]) == (409, "urn:spindle:problem:too-many-versions")
    invalid = await put(small, poster(9) | {"nodes": {"a": {"type": "no.such@1"}}})
    assert invalid.status_code == 422
    assert (await put(small, poster(1))).status_code == 200
    assert (await put(small, poster(description="x" * 4096))).status_code == 413
    response = await small.http.put(f"{SHELF}/poster", content=b"{}", headers={"Content-Type": "text/plain"})
    assert response.status_code == 415


async def test_a_tenant_sees_only_its_own(staffed: Control, tmp_path: Path) -> None:
    await put(staffed, poster())
    keys = ApiKeys(staffed.services.settings.keys_file)
    mine, other = ({"Authorization": f"Bearer {keys.create(t, 'k')[1]}"} for t in ("default", "studio"))
    assert (await staffed.http.get(f"{SHELF}/poster", headers=mine)).status_code == 200
    for path in ("poster", "poster?version=1", "poster/versions", "poster/document?version=1", "poster:diff"):
        assert (await staffed.http.get(f"{SHELF}/{path}", headers=other)).status_code == 404
    assert (await staffed.http.get(SHELF, headers=other)).json() == {"workflows": [], "next": None}
    assert (await staffed.http.delete(f"{SHELF}/poster", headers=other)).status_code == 404
    assert (await staffed.http.post(f"{SHELF}/poster:execute", json={"version": 1}, headers=other)).status_code == 404
    response = await staffed.http.post(RUNS, json={"workflow_ref": "poster@1"}, headers=other)
    assert response.status_code == 422
    first = await staffed.http.put(f"{SHELF}/poster", json=poster(5), headers=other | {"If-None-Match": "*"})
    assert (first.status_code, first.json()["version"]) == (201, 1)


async def test_only_what_an_address_takes_is_taken(staffed: Control) -> None:
    for path, allowed in (("poster", "DELETE, GET, PUT"), ("poster:execute", "POST"), ("poster:diff", "GET")):
        response = await staffed.http.patch(f"{SHELF}/{path}", json={})
        assert response.status_code == 405
        assert set(allowed.split(", ")) <= set(response.headers["Allow"].split(", "))
    document = copy.deepcopy(poster())
    assert (await put(staffed, document, "a:b")).status_code == 400
