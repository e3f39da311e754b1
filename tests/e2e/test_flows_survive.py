"""A run of maps, loops, calls and a question, while its workers and its controls are killed: only what is unfinished
runs again, and the outcome is what it would have been.
"""

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from spindle_control.client import Client
from support.cluster import Cluster, Process, running, workflow
from support.operating import check_history
from support.redis_server import RedisServer

Json = dict[str, Any]
API = "/api/v1"


def slow(value: Any, seconds: float = 0.15, **more: Any) -> Json:
    return {"type": "test.sleep@1", "inputs": {"seconds": seconds, "value": value}, **more}


ITEM: Json = {
    "inputs": {"item": {"type": "integer"}},
    "nodes": {
        "twice": slow({"$expr": "inputs.item * 2"}),
        "grown": {
            "type": "flow.loop@1",
            "carry": {"n": {"$from": "twice.value"}},
            "until": "more.value >= 20",
            "max_iterations": 3,
            "body": {
                "inputs": {"n": {"type": "integer"}},
                "nodes": {"more": slow({"$expr": "inputs.n + 5"}, 0.1)},
                "outputs": {"n": {"$from": "more.value"}},
            },
        },
    },
    "outputs": {"n": {"$from": "grown.n"}, "iterations": {"$from": "grown.iterations"}},
}
NODES: Json = {
    "vars": {"type": "flow.map@1", "over": [0, 1, 2, 3, 4, 5, 6, 7], "concurrency": 3, "body": ITEM},
    "sum": slow({"$expr": "size(vars.n)"}),
    "ok": {
        "type": "flow.approve@1",
        "show": {"n": {"$from": "vars.n"}},
        "answer": {"type": "object", "required": ["yes"]},
    },
    "end": slow({"$from": "vars.n"}, 0.1, when="ok.answer.yes"),
}
DOCUMENT = workflow(
    NODES, outputs={"n": {"$from": "end.value"}, "times": {"$from": "vars.iterations"}, "size": {"$from": "sum.value"}}
)


def grown(item: int) -> tuple[int, int]:
    n = item * 2
    for times in range(1, 4):
        n += 5
        if n >= 20:
            return n, times
    return n, 3


WANTED: Json = {"n": [grown(at)[0] for at in range(8)], "times": [grown(at)[1] for at in range(8)], "size": 8}


async def history(url: str, run: str) -> list[Json]:
    """All of a run's events."""
    events: list[Json] = []
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:
        while True:
            after = events[-1]["id"] if events else "0-0"
            page = (await http.get(f"{API}/runs/{run}/events", params={"after": after, "limit": 1000})).json()["events"]
            events += page
            if len(page) < 1000:
                return events


async def answer(url: str, run: str) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30) as http, asyncio.timeout(120):
        while True:
            reply = await http.post(f"{API}/runs/{run}/nodes/ok:answer", json={"answer": {"yes": True}})
            if reply.status_code == 200:
                return
            await asyncio.sleep(0.1)


async def kills(cluster: Cluster, rng: random.Random, over: asyncio.Event, control: Process) -> int:
    """Kill a control, then a worker, and so on, a second or so apart; each is replaced. Returns how many."""
    worker = cluster.processes[0]
    for count in range(4):
        await asyncio.sleep(rng.uniform(0.5, 1.5))
        if over.is_set():
            return count
        if count % 2 == 0:
            control.kill()
            control = (await asyncio.to_thread(cluster.control))[0]
        else:
            worker.kill()
            worker = cluster.worker()
    return 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_only_what_is_unfinished_runs_again(tmp_path: Path, fresh_redis: RedisServer, seed: int) -> None:
    with running(tmp_path, fresh_redis, controls=1, workers=1, SPINDLE_LINGER_SECONDS="0.5") as (cluster, (url,)):
        doomed, doomed_url = cluster.control()  # drives what it accepts, and is killed first
        over, cluster_runs = asyncio.Event(), []
        for target in (doomed_url, url):
            async with Client(target) as client:
                cluster_runs.append((await client.submit(DOCUMENT))["id"])
        killing = asyncio.ensure_future(kills(cluster, random.Random(seed), over, doomed))
        for run in cluster_runs:
            await answer(url, run)
        over.set()
        assert await killing
        async with Client(url) as client:
            for run in cluster_runs:
                ended = await client.wait(run)
                assert (ended["status"], ended["outputs"]) == ("completed", WANTED), ended.get("problem")
                events = await history(url, run)
                check_history(events)
                ends = [event["node"] for event in events if event["type"] == "node.completed"]
                assert len(ends) == len(set(ends)), "each node ended once"
                assert {f"vars[{at}].grown[0].more" for at in range(8)} <= set(ends)
