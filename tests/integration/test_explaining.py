"""Why a node is as it is, over HTTP and on the command line, with a worker that has little room."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spindle_control.cli import app
from support.cluster import workflow
from support.control import API, Control
from support.manned import manned
from support.operating import RUNS, ended, parked, submit
from support.redis_server import RedisServer
from support.worker_process import WorkerProcess

Json = dict[str, Any]


@pytest.fixture(scope="module")
def own_worker(tmp_path_factory: pytest.TempPathFactory, own_redis: RedisServer) -> Iterator[WorkerProcess]:
    with WorkerProcess(tmp_path_factory.mktemp("worker"), own_redis.url, SPINDLE_ASYNC_SLOTS="1") as process:
        yield process


@pytest.fixture
async def control(tmp_path: Path, own_redis: RedisServer, own_worker: WorkerProcess) -> AsyncIterator[Control]:
    async with manned(tmp_path, own_redis, own_worker) as control:
        yield control


def sleep(seconds: float, **more: Any) -> Json:
    return {"type": "test.sleep@1", "inputs": {"seconds": seconds}} | more


def value(of: Any, **more: Any) -> Json:
    return {"type": "test.noop@1", "inputs": {"value": of}} | more


async def why(control: Control, run: str, path: str) -> Json:
    response = await control.http.get(f"{RUNS}/{run}/nodes/{path}/why")
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


async def spindle(control: Control, *arguments: str, status: int = 0) -> str:
    """Call the command line in a thread: it has a loop of its own."""
    runner = CliRunner(env={"SPINDLE_URL": control.url, "COLUMNS": "200"})
    result = await asyncio.to_thread(runner.invoke, app, list(arguments))
    assert result.exit_code == status, result.output
    return str(result.output)


async def separately(control: Control, *arguments: str) -> str:
    """Call the command line as a process of its own, beside which others may be called."""
    main = "from spindle_control.cli import main; main()"
    env = os.environ | {"SPINDLE_URL": control.url, "COLUMNS": "200"}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", main, *arguments, env=env, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


async def test_what_a_node_waits_for_and_where_it_stands(control: Control) -> None:
    nodes: Json = {f"n{at}": sleep(60) for at in range(6)}
    run = await submit(control.http, workflow(nodes | {"last": value(1, after=["n0", "n5"])}))
    async with asyncio.timeout(120):
        while (running := [n for n in nodes if (await why(control, run, n))["status"] == "running"]) == []:
            await asyncio.sleep(0.05)
    first = await why(control, run, running[0])
    assert first["because"].startswith("attempt 1 runs on worker ")
    queued = [await why(control, run, name) for name in nodes if name not in running]
    places = sorted(found["queue"]["position"] for found in queued)
    assert places[-3:] == [1, 2, 3] or places[-4:] == [1, 2, 3, 4], places
    assert {found["queue"]["name"] for found in queued} == {"async"}
    far = max(queued, key=lambda found: int(found["queue"]["position"]))
    assert far["because"] == f"{places[-1] - 1} of your tasks come before it in the queue `async`, which has 1 slot"
    last = await why(control, run, "last")
    assert {each["node"] for each in last["waits_for"]} == {"n0", "n5"}
    assert last["because"].startswith("it waits for `n0` (")
    shown = await spindle(control, "why", run, "last")
    assert "last is pending: it waits for `n0`" in shown
    missing = await control.http.get(f"{RUNS}/{run}/nodes/nope/why")
    assert missing.status_code == 404
    await control.http.post(f"{RUNS}/{run}:cancel")
    assert (await why(control, run, "last"))["because"] == "the run ended (cancelled) before it did"


async def test_why_a_node_was_skipped(control: Control) -> None:
    body = {
        "inputs": {"item": {"type": "integer"}, "at_least": {"type": "integer"}},
        "nodes": {
            "base": value({"$expr": "inputs.item * 10"}),
            "big": value({"$from": "base.value"}, when="base.value >= inputs.at_least"),
            "reader": {"type": "value.const@1", "inputs": {"value": {"$from": "big.value"}}},
        },
    }
    nodes = {
        "all": {"type": "flow.map@1", "over": [1, 2], "with": {"at_least": {"$from": "inputs.bar"}}, "body": body},
        "bad": {"type": "test.fail@1"},
        "behind": value({"$from": "bad.value"}),
    }
    document = workflow(nodes, inputs={"bar": {"type": "integer", "default": 15}})
    run = await submit(control.http, document)
    await ended(control, run)
    big = await why(control, run, "all[0].big")
    assert big["skipped"] == {
        "reason": "when-false",
        "when": "base.value >= inputs.at_least",
        "values": {"base.value": 10, "inputs.at_least": 15},
    }
    reader = await why(control, run, "all[0].reader")
    assert reader["skipped"]["reference"] == "big.value"
    assert reader["because"] == "it needs `big.value`, and `all[0].big` was skipped"
    assert (await why(control, run, "behind"))["skipped"]["node"] == "bad"
    assert (await why(control, run, "bad"))["because"].startswith("it failed: ")
    assert (await why(control, run, "all[1].big"))["status"] == "completed"


async def test_when_it_is_tried_again(control: Control) -> None:
    retry = {"max_attempts": 2, "backoff": "60s"}
    run = await submit(control.http, workflow({"bad": {"type": "test.fail@1", "retry": retry}}))
    async with asyncio.timeout(120):
        while "next_attempt_at" not in (found := await why(control, run, "bad")):
            await asyncio.sleep(0.05)
    assert [(past["attempt"], past["cause"]) for past in found["history"]] == [(1, "error")]
    assert found["because"] == f"attempt 1 did not end it; it is tried again at {found['next_attempt_at']}"
    await control.http.post(f"{RUNS}/{run}:cancel")


async def test_what_a_fork_took_over(control: Control) -> None:
    first = await submit(control.http, workflow({"a": value(1), "b": value(2)}))
    await ended(control, first)
    plan = await spindle(control, "fork", first, "--from", "b", "--dry-run")
    assert plan.split() == ["re-used", "a", "run", "b", "skipped", "-"]
    record = json.loads(await spindle(control, "fork", first, "--from", "b", "--json"))
    await ended(control, record["id"])
    found = await why(control, record["id"], "a")
    assert (found["reused_from"], found["because"].startswith("its result was taken over")) == (first, True)
    assert (await why(control, record["id"], "b"))["because"] == "it ran; attempt 1 completed it"


ASK: Json = {
    "type": "flow.approve@1",
    "show": {"what": "a picture"},
    "answer": {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]},
    "deadline": "1h",
}


async def test_a_question_is_shown_and_answered_on_the_command_line(control: Control, tmp_path: Path) -> None:
    file = tmp_path / "ask.json"
    file.write_text(json.dumps(workflow({"ok": ASK, "then": value("big", when="ok.answer.yes")})))
    waiting = asyncio.create_task(separately(control, "run", str(file)))
    async with asyncio.timeout(120):
        while not (runs := (await control.http.get(RUNS)).json()["runs"]):
            await asyncio.sleep(0.05)
    run = runs[0]["id"]
    await parked(control, run)
    found = await why(control, run, "ok")
    assert found["because"].startswith("it waits for a person's answer until ")
    assert found["question"]["show"] == {"what": "a picture"}
    refused = await spindle(control, "answer", run, "ok", status=2)
    assert f"spindle answer {run} ok --yes" in refused
    await spindle(control, "answer", run, "then", "--yes", status=2)
    await spindle(control, "answer", run, "ok", "-i", "yes=true")
    shown = await waiting
    assert f"ok waits for an answer: spindle answer {run} ok --yes (or --no)" in shown
    assert "paused" not in shown
    assert (await why(control, run, "ok"))["because"] == "a person answered"
    assert (await ended(control, run))["nodes"]["then"]["outputs"]["value"] == "big"


async def test_a_plan_as_a_chart(control: Control, tmp_path: Path) -> None:
    nodes = {"a": value(1, title='say "hi" [x]'), "b": value({"$from": "a.value"}, when="a.value > 0")}
    document = workflow(nodes)
    answer = (await control.http.post(f"{API}/workflows:validate", json=document)).json()
    (tmp_path / "w.json").write_text(json.dumps(document))
    assert await spindle(control, "validate", str(tmp_path / "w.json"), "--mermaid") == answer["mermaid"]
    assert "say #quot;hi#quot; [x]" in answer["mermaid"]
