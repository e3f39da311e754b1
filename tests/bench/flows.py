"""What control flow costs: a map of many no-op items, its memory, its manners, and the makespan through every flow.

    python tests/bench/flows.py [ITEMS]     JSON on standard output; 10,000 items unless said

Beside the map another tenant submits one-node runs: how long they take meanwhile, against how long they take alone.
Processor time holds still on a machine that does other things too; memory is what the process has resident.
"""

import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import uvloop

from bench.orchestration import QUIET, Http, Target, chain, latency, run_once, warmed_up
from support.cluster import running, workflow
from support.redis_server import RedisServer

Json = dict[str, Any]
NOOP: Json = {"type": "test.noop@1", "inputs": {"value": {"$from": "inputs.item"}}}
BODY: Json = {"nodes": {"v": NOOP}, "outputs": {"v": {"$from": "v.value"}}}


def resident(pid: int) -> float:
    """Mebibytes that a process has resident."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20


def mapping(items: int, concurrency: int) -> Json:
    node = {"type": "flow.map@1", "over": {"$from": "all.items"}, "concurrency": concurrency, "body": BODY}
    counted = {"type": "list.range@1", "inputs": {"count": items}}
    return workflow({"all": counted, "m": node}, outputs={"last": {"$expr": f"m.v[{items - 1}]"}})


async def large_map(target: Target, items: int) -> Json:
    """One map of no-op items, with another tenant's runs beside it."""
    small, http = json.dumps({"workflow": chain(1)}).encode(), Http(target.url)
    alone = sorted([await run_once(http, target.url, small) for _ in range(50)])
    memory = {name: resident(pid) for name, pid in target.processes.items()}
    most, before, began = dict(memory), target.cpu(), time.perf_counter()
    run = (await http.post("/api/v1/runs", json.dumps({"workflow": mapping(items, 64)}).encode()))["id"]
    beside: list[float] = []
    async with httpx.AsyncClient(base_url=target.url, timeout=60) as api:
        while True:
            status = (await api.get("/api/v1/runs", params={"limit": 100})).json()["runs"]
            if next(each["status"] for each in status if each["id"] == run) not in ("queued", "running"):
                break
            beside.append(await run_once(http, target.url, small))
            most = {name: max(most[name], resident(pid)) for name, pid in target.processes.items()}
            await asyncio.sleep(0.2)
        took = time.perf_counter() - began
        cpu = target.since(before, items)
        record = (await api.get(f"/api/v1/runs/{run}")).json()
        assert record["status"] == "completed", record["problem"]
    http.close()
    return {
        "items": items,
        "seconds": took,
        "items_per_second": items / took,
        "cpu_ms_an_item": cpu,
        "grew_by_mib": {name: most[name] - memory[name] for name in memory},
        "other_run_alone_p50": statistics.median(alone),
        "other_run_beside_p50": statistics.median(beside) if beside else None,
        "other_run_beside_max": max(beside, default=None),
    }


def sleeping(seconds: Any, **inputs: Any) -> Json:
    return {"type": "test.sleep@1", "inputs": {"seconds": seconds, **inputs}}


def skew_map() -> tuple[Json, float]:
    """Chains inside items, slow and fast by turns: the slowest item is the critical path."""
    body = {
        "inputs": {"item": {"type": "array", "items": {"type": "number"}}},
        "nodes": {
            "a": sleeping({"$expr": "inputs.item[0]"}),
            "b": sleeping({"$expr": "inputs.item[1]"}, in0={"$from": "a.value"}),
            "c": sleeping({"$expr": "inputs.item[2]"}, in0={"$from": "b.value"}),
        },
    }
    over = [[0.1, 0.8, 0.1], [0.8, 0.1, 0.8], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]]
    return workflow({"m": {"type": "flow.map@1", "over": over, "body": body}}), 1.7


def skew_loop() -> tuple[Json, float]:
    """Two loops beside each other, one slow to start, one slow to end, in a map of two."""
    body = {
        "inputs": {"item": {"type": "array", "items": {"type": "number"}}},
        "nodes": {
            "l": {
                "type": "flow.loop@1",
                "max_iterations": 3,
                "with": {"of": {"$from": "inputs.item"}},
                "body": {
                    "inputs": {"of": {"type": "array", "items": {"type": "number"}}},
                    "nodes": {"s": sleeping({"$expr": "inputs.of[inputs.index]"})},
                },
            }
        },
    }
    nodes = {
        "m": {"type": "flow.map@1", "over": [[0.1, 0.2, 0.9], [0.9, 0.2, 0.1]], "body": body},
        "side": sleeping(1.2),
        "end": sleeping(0.3) | {"after": ["side"]},
    }
    return workflow(nodes), 1.5


async def approved(url: str) -> float:
    """An answer at once takes effect while a slow sibling runs: makespan over the critical path of 1.5 s."""
    ask = {"type": "flow.approve@1", "answer": {"type": "boolean"}}
    nodes = {"ok": ask, "then": sleeping(1.2) | {"when": "ok.answer"}, "slow": sleeping(1.5)}
    async with httpx.AsyncClient(base_url=url, timeout=60) as api:
        began = time.perf_counter()
        run = (await api.post("/api/v1/runs", json={"workflow": workflow(nodes)})).json()["id"]
        while (await api.post(f"/api/v1/runs/{run}/nodes/ok:answer", json={"answer": True})).status_code != 200:
            await asyncio.sleep(0.01)
        record = (await api.get(f"/api/v1/runs/{run}", params={"wait": "30s"})).json()
        took = time.perf_counter() - began
        assert record["status"] == "completed", record
    return took / 1.5


async def makespans(target: Target) -> Json:
    """Makespan over critical path."""
    found: Json = {}
    for name, (document, critical) in {"map": skew_map(), "map_of_loops": skew_loop()}.items():
        found[name] = (await latency(target, document, 3))["p50"] / critical / 1000
    await approved(target.url)
    found["approval"] = statistics.median([await approved(target.url) for _ in range(3)])
    return found


def measure(items: int) -> Json:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = RedisServer(folder)
        redis.start()
        stack.callback(redis.stop)
        cluster, (url,) = stack.enter_context(running(folder, redis, 1, 1, **QUIET))
        worker, control = (process.pid for process in cluster.processes)
        target = Target(url, {"control": control, "worker": worker, "redis": redis.pid})
        warmed_up(target)
        return {
            "makespan_over_critical_path": uvloop.run(makespans(target)),
            "map": uvloop.run(large_map(target, items)),
        }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000), indent=2))
