"""Runs of stored workflows, and documents that call them: of the version that was meant when they were accepted."""

import asyncio
from pathlib import Path
from typing import Any

from spindle_common.connection import connect
from spindle_common.digests import digest
from spindle_control.api_keys import ApiKeys
from support.control import API, Control, serving
from support.documents import noop, sleeper
from support.library import SHELF, ended, poster, put
from support.redis_server import RedisServer

RUNS = f"{API}/runs"
Json = dict[str, Any]


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
