"""Forks and retries over HTTP: what is taken over, what runs again, and with which seeds."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spindle_common.seeds import draw_seed
from spindle_control.cli import app
from support import forked_nodes
from support.cluster import workflow
from support.control import Control
from support.manned import manned
from support.operating import RUNS, check_history, ended, history, record, submit
from support.redis_server import RedisServer
from support.worker_process import WorkerProcess

Json = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spindle")


@pytest.fixture(scope="module")
def own_worker(folder: Path, own_redis: RedisServer) -> Iterator[WorkerProcess]:
    with WorkerProcess(folder, own_redis.url, SPINDLE_NODES=str(forked_nodes.__file__)) as process:
        yield process


@pytest.fixture
async def control(folder: Path, own_redis: RedisServer, own_worker: WorkerProcess) -> AsyncIterator[Control]:
    async with manned(folder, own_redis, own_worker) as control:
        yield control


def value(of: Any) -> Json:
    return {"type": "test.noop@1", "inputs": {"value": of}}


CHAIN = workflow(
    {"a": value({"$from": "inputs.x"}), "b": value({"$from": "a.value"}), "other": value(1)},
    inputs={"x": {"type": "integer", "default": 1}},
    outputs={"b": {"$from": "b.value"}},
)


async def finished(control: Control, document: Json, **more: Any) -> Json:
    return await ended(control, await submit(control.http, document, **more))


async def fork(control: Control, run: str, wish: Json, *, headers: Json | None = None, **params: Any) -> Any:
    return await control.http.post(f"{RUNS}/{run}:fork", json=wish, headers=headers, params=params)


async def forked(control: Control, run: str, wish: Json) -> Json:
    """The plan is what is then done, and the new run's end."""
    plan = (await fork(control, run, wish, dry_run=True)).json()
    response = await fork(control, run, wish)
    assert response.status_code == 202, response.text
    found = await ended(control, response.json()["id"])
    assert (found["parent"], found["reason"]) == (run, "fork")
    events = await history(control, found["id"])
    check_history(events)
    taken = {e["node"] for e in events if e["data"].get("reused") and not e.get("attempt")}
    assert set(plan["reuse"]) == taken
    ran = {e["node"] for e in events if e["type"] == "node.started"}
    assert ran.isdisjoint(taken)
    assert {path.partition("[")[0] for path in ran} <= set(plan["run"])
    return found


def reused(found: Json) -> list[str]:
    """Those taken over from the parent; the content cache's were attempted."""
    return sorted(id_ for id_, node in found["nodes"].items() if node.get("reused") and not node["attempt"])


async def test_a_patch_runs_its_cone(control: Control) -> None:
    first = await finished(control, CHAIN)
    found = await forked(control, first["id"], {"patch": {"nodes": {"b": {"inputs": {"value": "new"}}}}})
    assert (found["status"], found["outputs"], reused(found)) == ("completed", {"b": "new"}, ["a", "other"])
    named = await forked(control, first["id"], {"from": ["a"]})
    assert (named["outputs"], reused(named)) == ({"b": 1}, ["other"])


async def test_other_inputs_run_what_reads_them(control: Control) -> None:
    first = await finished(control, CHAIN)
    found = await forked(control, first["id"], {"inputs": {"x": 5}, "priority": 3})
    assert (found["outputs"], reused(found), found["priority"]) == ({"b": 5}, ["other"], 3)
    assert found["inputs"] == {"x": 5}
    whole = await forked(control, found["id"], {"workflow": CHAIN | {"on_failure": "stop"}})
    assert reused(whole) == ["a", "b", "other"]


async def test_what_cannot_be_forked(control: Control) -> None:
    slow = await submit(control.http, workflow({"s": {"type": "test.sleep@1", "inputs": {"seconds": 30}}}))
    early = await fork(control, slow, {})
    assert (early.status_code, early.json()["type"]) == (409, "urn:spindle:problem:run-not-ended")
    await control.http.post(f"{RUNS}/{slow}:cancel")
    first = (await finished(control, CHAIN))["id"]
    unknown = (await fork(control, first, {"from": ["a", "nope", "a[3]", 7]})).json()
    assert unknown["errors"][0]["pointer"] == "/from"
    for names, pointer in ((["a", "nope"], "/from/1"), (["a[3]"], "/from/0"), (["a.b"], "/from/0")):
        wrong = await fork(control, first, {"from": names})
        assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (400, pointer)
    assert (await fork(control, first, {"patch": {}, "workflow": CHAIN})).status_code == 400
    assert (await fork(control, first, {"patch": {"nodes": {"a": {"type": "no.such@1"}}}})).status_code == 422
    assert (await fork(control, first, {"inputs": {"x": "word"}})).status_code == 422
    assert (await fork(control, first, {"input": {}})).status_code == 400
    assert (await fork(control, "0" * 26, {})).status_code == 404


async def test_the_same_key_gives_the_same_run(control: Control) -> None:
    first = (await finished(control, CHAIN))["id"]
    key = {"Idempotency-Key": "once"}
    runs = [(await fork(control, first, {"from": ["b"]}, headers=key)).json()["id"] for _ in range(2)]
    assert runs[0] == runs[1]
    assert (await fork(control, first, {"from": ["a"]}, headers=key)).status_code == 409


DICE: Json = {
    "type": "flow.map@1",
    "over": [0, 1, 2, 3],
    "concurrency": 1,
    "body": {
        "inputs": {"item": {"type": "integer"}},
        "nodes": {
            "dice": {"type": "forked.dice@1"},
            "check": {"type": "test.fail@1", "when": "inputs.item == 2", "inputs": {}},
        },
        "outputs": {"seed": {"$from": "dice.seed"}},
    },
}


async def test_a_map_that_failed_goes_on_with_the_seeds_it_drew(control: Control) -> None:
    document = workflow({"rolls": DICE}, outputs={"seeds": {"$from": "rolls.seed"}})
    first = await finished(control, document)
    assert first["status"] == "failed"
    patch = {"nodes": {"rolls": {"on_item_error": "skip"}}}
    found = await forked(control, first["id"], {"patch": patch})
    drawn = [draw_seed(first["id"], f"rolls[{at}].dice") for at in range(4)]
    assert found["outputs"] == {"seeds": [drawn[0], drawn[1], drawn[3]]}
    instances = (await control.http.get(f"{RUNS}/{found['id']}/nodes", params={"under": "rolls"})).json()["nodes"]
    kept = [node["path"] for node in instances if node.get("reused")]
    assert kept == ["rolls[0]", "rolls[1]", "rolls[2].dice"]
    mended = {"nodes": {"rolls": {"body": {"nodes": {"check": None}}}}}
    whole = await forked(control, found["id"], {"patch": mended})
    assert whole["outputs"] == {"seeds": drawn}, "a fork of a fork draws as the first run did"


async def test_a_saved_picture_of_a_map_makes_all_of_them_again(control: Control, tmp_path: Path) -> None:
    body = {
        "nodes": {
            "noise": {"type": "forked.noise@1"},
            "saved": {"type": "image.save@1", "inputs": {"image": {"$from": "noise.image"}}},
        },
        "outputs": {"bare": {"$from": "noise.image"}, "saved": {"$from": "saved.image"}},
    }
    outputs = {"bare": {"$from": "all.bare"}, "saved": {"$from": "all.saved"}}
    first = await finished(
        control, workflow({"all": {"type": "flow.map@1", "over": [0, 1], "body": body}}, outputs=outputs)
    )
    assert first["status"] == "completed", first
    file = tmp_path / "second.png"
    file.write_bytes(await control.services.artifacts.read(first["outputs"]["saved"][1]["digest"]))
    runner = CliRunner(env={"SPINDLE_URL": control.url})
    result = await asyncio.to_thread(runner.invoke, app, ["run", str(file), "--json"])
    assert result.exit_code == 0, result.output
    again = json.loads(result.stdout)
    assert again["id"] != first["id"]
    assert again["outputs"]["bare"] == first["outputs"]["bare"]
    assert len({picture["digest"] for picture in again["outputs"]["bare"]}) == 2


async def test_runs_may_draw_the_seeds_of_another(control: Control) -> None:
    document = workflow({"one": {"type": "forked.dice@1"}}, outputs={"seed": {"$from": "one.seed"}})
    first = await finished(control, document)
    again = await finished(control, document, seeds_from=first["id"])
    other = await finished(control, document)
    assert first["outputs"] == again["outputs"] != other["outputs"]
    assert "parent" not in again
    wrong = await control.http.post(RUNS, json={"workflow": document, "seeds_from": "a b"})
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (400, "/seeds_from")


async def test_what_names_lost_bytes_runs_again(control: Control) -> None:
    nodes = {
        "kept": {"type": "forked.file@1", "inputs": {"value": "kept"}},
        "lost": {"type": "forked.file@1", "inputs": {"value": "lost"}},
        "then": {"type": "forked.file@1", "inputs": {"value": "then", "in1": {"$from": "lost.file"}}},
    }
    first = await finished(control, workflow(nodes))
    assert first["status"] == "completed", first
    digest = first["nodes"]["lost"]["outputs"]["file"]["digest"]
    await control.services.artifacts.delete(digest)
    found = await forked(control, first["id"], {})
    assert (found["status"], reused(found)) == ("completed", ["kept"])
    assert (await control.services.artifacts.head(digest))["digest"] == digest


async def test_a_retry_is_a_fork_in_which_nothing_differs(control: Control) -> None:
    nodes = {"a": value(1), "bad": {"type": "test.fail@1", "inputs": {"in1": {"$from": "a.value"}}}, "c": value(2)}
    first = await finished(control, workflow(nodes))
    again = (await control.http.post(f"{RUNS}/{first['id']}:retry")).json()
    assert again["reason"] == "retry"
    found = await ended(control, again["id"])
    assert (found["status"], reused(found)) == ("failed", ["a", "c"])
    assert (await record(control, first["id"])).get("reason") is None
