"""Runs over HTTP: accepted, shown, listed, waited for, cancelled; whatever is wrong is told."""

import asyncio
import json
from typing import Any

import pytest

from spindle_common import keys
from spindle_common.connection import connect
from spindle_control.api_keys import ApiKeys
from support.control import API, Control
from support.documents import noop, sleeper
from support.redis_server import RedisServer

RUNS = f"{API}/runs"
Json = dict[str, Any]


async def submit(control: Control, workflow: Json, **more: Any) -> Json:
    headers = more.pop("headers", {})
    response = await control.http.post(RUNS, json={"workflow": workflow, **more}, headers=headers)
    assert response.status_code == 202, response.text
    record: Json = response.json()
    assert response.headers["Location"] == f"{RUNS}/{record['id']}"
    return record


async def ended(control: Control, run: str) -> Json:
    response = await control.http.get(f"{RUNS}/{run}", params={"wait": "30s"}, timeout=40)
    found: Json = response.json()
    return found


async def test_a_run_is_accepted_and_ends(staffed: Control) -> None:
    record = await submit(staffed, sleeper(0.05))
    assert record["status"] in ("queued", "running")
    done = await ended(staffed, record["id"])
    assert (done["status"], done["outputs"]) == ("completed", {"v": 7})
    assert done["nodes"]["a"]["status"] == "completed"
    assert done["workflow"]["name"] == "sleeper"
    again = await staffed.http.get(f"{RUNS}/{record['id']}")
    assert again.json() == done


async def test_waiting_ends_with_the_time_asked_for(staffed: Control) -> None:
    record = await submit(staffed, sleeper(20))
    response = await staffed.http.get(f"{RUNS}/{record['id']}", params={"wait": "200ms"})
    assert response.json()["status"] == "running"
    cancelled = await staffed.http.post(f"{RUNS}/{record['id']}:cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    again = await staffed.http.post(f"{RUNS}/{record['id']}:cancel")
    assert (again.status_code, again.json()["status"]) == (200, "cancelled")
    assert (await staffed.http.post(f"{RUNS}/nothing:cancel")).status_code == 404
    for wrong in ("soon", "-1s", "1"):
        assert (await staffed.http.get(f"{RUNS}/{record['id']}", params={"wait": wrong})).status_code == 400


async def test_the_same_key_gives_the_same_run(staffed: Control) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await submit(staffed, noop(), headers=headers)
    again = await submit(staffed, noop(), headers=headers)
    assert again["id"] == first["id"]
    other = await staffed.http.post(RUNS, json={"workflow": sleeper(0)}, headers=headers)
    assert (other.status_code, other.json()["type"]) == (409, "urn:spindle:problem:idempotency-mismatch")
    for wrong in ("", "a b", "x" * 256, "é"):
        raw = [(b"Idempotency-Key", wrong.encode())]
        assert (await staffed.http.post(RUNS, json={"workflow": noop()}, headers=raw)).status_code == 400


async def test_runs_are_listed_page_by_page(staffed: Control) -> None:
    made = [(await submit(staffed, noop()))["id"] for _ in range(3)]
    for run in made:
        await ended(staffed, run)
    first = (await staffed.http.get(RUNS, params={"limit": 2})).json()
    rest = (await staffed.http.get(RUNS, params={"limit": 2, "after": first["next"]})).json()
    assert [run["id"] for run in first["runs"] + rest["runs"]] == made[::-1]
    assert rest["next"] is None
    done = (await staffed.http.get(RUNS, params={"status": "completed"})).json()
    assert len(done["runs"]) == 3
    assert (await staffed.http.get(RUNS, params={"status": "failed"})).json()["runs"] == []


async def test_nodes_are_paged_in_order(staffed: Control) -> None:
    others = {name: {"type": "test.noop@1"} for name in ("c", "b")}
    run = (await submit(staffed, noop(**others)))["id"]
    await ended(staffed, run)
    first = (await staffed.http.get(f"{RUNS}/{run}/nodes", params={"limit": 2})).json()
    rest = (await staffed.http.get(f"{RUNS}/{run}/nodes", params={"limit": 2, "after": first["next"]})).json()
    assert [node["path"] for node in first["nodes"]] == ["a", "b"]
    assert ([node["path"] for node in rest["nodes"]], rest["next"]) == (["c"], None)
    assert first["nodes"][0]["status"] == "completed"
    under = (await staffed.http.get(f"{RUNS}/{run}/nodes", params={"under": "b"})).json()
    assert [node["path"] for node in under["nodes"]] == ["b"]


async def test_a_valid_workflow_shows_its_plan(staffed: Control) -> None:
    response = await staffed.http.post(f"{API}/workflows:validate", json=noop())
    assert response.status_code == 200, response.text
    assert response.json()["valid"]
    assert response.json()["plan"]["level"]["tasks"]


def bodies() -> list[tuple[bytes, int]]:
    cycle = {"b": {"type": "test.noop@1", "after": ["c"]}, "c": {"type": "test.noop@1", "after": ["b"]}}
    many = {f"n{number}": {"type": "test.noop@1"} for number in range(2001)}
    wrong = [
        {"workflow": noop(b={"type": "no.such@1"})},
        {"workflow": noop(**cycle)},
        {"workflow": noop(**many)},
        {"workflow": noop(b={"type": "test.noop@1", "inputs": {"in_x": {"$from": "nothing.x"}}})},
        {"workflow": noop(), "inputs": {"unknown": 1}},
        {"workflow": 7},
    ]
    found = [(json.dumps(each).encode(), 422) for each in wrong]
    unreadable = [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"workflow": NaN}',
        b'{"a": 1, "a": 2}',
        b"{}",
        b'{"workflow": {}, "x": 1}',
    ]
    found += [(each, 400) for each in unreadable]
    return [*found, (json.dumps({"workflow": noop(), "pad": "x" * 5_000_000}).encode(), 413)]


@pytest.mark.parametrize(("body", "status"), bodies())
async def test_bad_submissions_are_told_and_leave_nothing(staffed: Control, body: bytes, status: int) -> None:
    for path in (RUNS, f"{API}/workflows:validate"):
        response = await staffed.http.post(path, content=body, headers={"Content-Type": "application/json"})
        problem = response.json()
        assert response.headers["Content-Type"] == "application/problem+json"
        if path == RUNS:
            assert (response.status_code, problem["status"]) == (status, status)
        else:
            assert response.status_code in (400, 413, 422)
        if response.status_code == 422:
            assert all(each["pointer"].startswith("/") or each["pointer"] == "" for each in problem["errors"])
            assert problem["errors"]
    assert (await staffed.http.get(RUNS)).json()["runs"] == []


async def test_tenants_do_not_see_each_other(staffed: Control) -> None:
    keys = ApiKeys(staffed.services.settings.keys_file)
    mine = {"X-API-Key": keys.create("studio")[1]}
    theirs = {"X-API-Key": keys.create("other")[1]}
    run = (await submit(staffed, noop(), headers=mine))["id"]
    for path in ("", "/nodes", "/events"):
        assert (await staffed.http.get(f"{RUNS}/{run}{path}", headers=theirs)).status_code == 404
        assert (await staffed.http.get(f"{RUNS}/{run}{path}", headers=mine)).status_code == 200
    assert (await staffed.http.post(f"{RUNS}/{run}:cancel", headers=theirs)).status_code == 404
    assert (await staffed.http.get(RUNS, headers=theirs)).json()["runs"] == []
    assert len((await staffed.http.get(RUNS, headers=mine)).json()["runs"]) == 1


async def test_what_there_is_can_be_listed(staffed: Control) -> None:
    types = (await staffed.http.get(f"{API}/node-types")).json()["node_types"]
    assert "test.noop@1" in [each["type"] for each in types]
    assert (await staffed.http.get(f"{API}/node-types/test.noop@1")).json()["type"] == "test.noop@1"
    assert (await staffed.http.get(f"{API}/node-types/no.such@1")).status_code == 404
    worker = (await staffed.http.get(f"{API}/workers")).json()["workers"][0]
    assert worker["slots"]["async"] > 0
    queues = (await staffed.http.get(f"{API}/queues")).json()["queues"]
    assert "async" in [each["queue"] for each in queues]
    (target,) = (await staffed.http.get(f"{API}/prometheus/targets")).json()
    assert target["targets"][0] in worker["metrics_url"]
    assert target["labels"]["worker"] == worker["id"]


async def test_many_runs_at_once_all_end(staffed: Control) -> None:
    made = await asyncio.gather(*(submit(staffed, noop()) for _ in range(20)))
    done = await asyncio.gather(*(ended(staffed, run["id"]) for run in made))
    assert {run["status"] for run in done} == {"completed"}


async def test_an_unreadable_wake_does_not_stop_the_others(staffed: Control, redis_server: RedisServer) -> None:
    client = connect(redis_server.url)
    await client.xadd(keys.drive(staffed.services.driver.owner), {"run": "x", "outcomes": "{"})
    run = (await staffed.http.post(RUNS, json={"workflow": noop()})).json()["id"]
    done = await ended(staffed, run)
    assert done["status"] == "completed"
    await client.aclose()
