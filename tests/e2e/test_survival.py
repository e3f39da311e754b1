"""What happens when processes die: two controls and three workers on one Redis, killed without warning."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from spindle_common import keys
from spindle_common.connection import connect
from spindle_control.client import Client
from support.cluster import Cluster, Process, running, workflow
from support.redis_server import RedisServer


def sleeper(seconds: float, **inputs: Any) -> dict[str, Any]:
    return {"type": "test.sleep@1", "inputs": {"seconds": seconds, **inputs}}


async def started(client: Client, run: str, node: str) -> None:
    while (status := (await client.get(run))["nodes"][node]["status"]) in ("pending", "queued"):
        await asyncio.sleep(0.02)
    assert status == "running", "it was over before it was seen"


async def holder(cluster: Cluster, task: str) -> Process:
    """The worker process that has a task now."""
    client = connect(cluster.redis.url)
    name: Any = await client.hget(keys.task(task), "worker")
    await client.aclose()
    (process,) = [p for p in cluster.processes if f"worker {name!s}:" in p.log.read_text()]
    return process


@pytest.mark.long  # tests/chaos/test_processes.py proves the same beside others, in one arena
async def test_a_killed_workers_task_is_done_by_another(tmp_path: Path, fresh_redis: RedisServer) -> None:
    with running(tmp_path, fresh_redis, workers=2) as (cluster, (url,)):
        async with Client(url) as client:
            run = await client.submit(workflow({"a": sleeper(1.5, value=1), "b": sleeper(0, in0={"$from": "a.value"})}))
            await started(client, run["id"], "a")
            (await holder(cluster, f"{run['id']}/a")).kill()
            killed = time.monotonic()
            ended = await client.wait(run["id"])
        assert ended["status"] == "completed"
        assert ended["nodes"]["a"]["attempt"] == 2
        assert time.monotonic() - killed < 3 + 2 + 1.5 + 1, "lease, bound, the node itself, and a second for the test"


@pytest.mark.long  # likewise
async def test_a_killed_controls_runs_are_adopted(tmp_path: Path, fresh_redis: RedisServer) -> None:
    with running(tmp_path, fresh_redis, controls=1, workers=3) as (cluster, (url,)):
        doomed, doomed_url = cluster.control()
        nodes = {
            "quick": sleeper(0, value=1),
            "slow": sleeper(4, in0={"$from": "quick.value"}, in1={"$from": "other.value"}),
            "other": sleeper(0.1, value=2),
            "last": sleeper(0.1, in0={"$from": "slow.value"}, in1={"$from": "quick.value"}),
        }
        async with Client(doomed_url) as client:
            run = await client.submit(workflow(nodes))
            await started(client, run["id"], "slow")
            before = (await history(doomed_url, run["id"]))[-1]["id"]
        doomed.kill()
        killed = time.monotonic()
        async with Client(url) as client:
            after = [event async for event in client.events(run["id"], after=before) if "id" in event]
            assert time.monotonic() - killed < 5 + 4 + 1
            ended = await client.wait(run["id"])
            everything = await history(url, run["id"])
        assert ended["status"] == "completed"
        assert {node["attempt"] for node in ended["nodes"].values()} == {1}
        completed = [event["node"] for event in everything if event["type"] == "node.completed"]
        assert sorted(completed) == sorted(nodes)
        assert everything[-len(after) :] == after, "the cursor goes on unbroken"


async def history(url: str, run: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient() as http:
        return list((await http.get(f"{url}/api/v1/runs/{run}/events")).json()["events"])


async def test_two_controls_share_the_work_of_many_runs(tmp_path: Path, fresh_redis: RedisServer) -> None:
    with running(tmp_path, fresh_redis, controls=2, workers=2) as (_, urls):
        clients = [Client(url) for url in urls]
        runs = [await clients[i % 2].submit(workflow({"a": sleeper(0.05, value=i)})) for i in range(40)]
        ended = await asyncio.gather(*(clients[(i + 1) % 2].wait(run["id"]) for i, run in enumerate(runs)))
        assert {run["status"] for run in ended} == {"completed"}
        for client in clients:
            await client.close()


async def test_a_worker_told_to_stop_ends_what_it_runs(tmp_path: Path, fresh_redis: RedisServer) -> None:
    with running(tmp_path, fresh_redis) as (cluster, (url,)):
        async with Client(url) as client:
            run = await client.submit(workflow({"a": sleeper(3, value=1)}))
            await started(client, run["id"], "a")
            assert cluster.processes[0].stop() == 0
            ended = await client.wait(run["id"])
        assert ended["status"] == "completed"
        assert ended["nodes"]["a"]["attempt"] == 1


async def test_more_runs_than_a_control_drives_wait_their_turn(tmp_path: Path, fresh_redis: RedisServer) -> None:
    with running(tmp_path, fresh_redis, SPINDLE_MAX_DRIVEN_RUNS="2") as (_, (url,)):
        async with Client(url) as client:
            runs = [await client.submit(workflow({"a": sleeper(1, value=i)})) for i in range(6)]
            assert "queued" in {run["status"] for run in runs}
            ended = await asyncio.gather(*(client.wait(run["id"]) for run in runs))
        assert {run["status"] for run in ended} == {"completed"}
