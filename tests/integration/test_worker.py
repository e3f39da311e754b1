"""One worker process, spoken to by the protocol alone: what it commits, gives back, and survives."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from spindle_common import keys
from spindle_common.connection import connect
from spindle_common.queue import Offer, Queue, compact
from spindle_common.stopping import stop
from support.cluster import Cluster
from support.redis_server import RedisServer

PROBLEM = {"type": "x", "title": "x", "status": 500}
FIELDS: dict[str, str | int] = {
    "tenant": "default",
    "weight": 1,
    "priority": 0,
    "workflow": "{}",
    "inputs": "{}",
    "plan": "{}",
    "traceparent": "",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, own_redis: RedisServer) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("worker"), own_redis)
    cluster.worker()
    yield cluster
    cluster.close()


@pytest.fixture
async def queue(cluster: Cluster) -> AsyncIterator[Queue]:
    queue = Queue(connect(cluster.redis.url))
    async with asyncio.timeout(100):
        while not await queue.client.zcard(keys.WORKERS):
            await asyncio.sleep(0.05)
    yield queue
    await queue.client.aclose()


async def ended(queue: Queue, run: str, nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Dispatch one task of these nodes and return the ledger once all of them have ended."""
    await queue.open(run, status="running", owner="c1", epoch=1, fields=FIELDS)
    first = next(iter(nodes))
    body = {"schema": "spindle.task/v1", "run": run, "task": first, "queue": "async", "nodes": nodes, **more}
    assert await queue.dispatch(run, 1, [Offer(first, "async", compact(body), list(nodes), [first])], 3) == "ok"
    async with asyncio.timeout(60):
        while True:
            ledger = await queue.ledger(run)
            if all(o["status"] in ("completed", "failed", "skipped") for o in ledger.values()):
                return ledger
            await asyncio.sleep(0.01)


async def test_a_fused_task_commits_every_node(queue: Queue) -> None:
    nodes = {
        "a": {"type": "test.noop@1", "inputs": {"value": {"$expr": "inputs.n + 1"}}},
        "b": {"type": "test.noop@1", "inputs": {"value": {"$expr": "a.value * 2"}}, "needs": ["a"]},
        "c": {"type": "test.noop@1", "inputs": {"value": {"$from": "before.value"}}, "needs": ["before"]},
    }
    feed = {"before": {"status": "completed", "outputs": {"value": [1, {}]}}}
    ledger = await ended(queue, "fused", nodes, inputs={"n": 3}, feed=feed)
    assert {path: o["outputs"]["value"] for path, o in ledger.items()} == {"a": 4, "b": 8, "c": [1, {}]}
    assert all(o["started_at"] <= o["ended_at"] for o in ledger.values())


async def test_a_held_node_lets_its_siblings_end_first(queue: Queue) -> None:
    nodes = {
        "bad": {"type": "test.fail@1", "max_attempts": 2, "backoff": 0.05},
        "child": {"type": "test.noop@1", "inputs": {"in0": {"$from": "bad.value"}}, "needs": ["bad"]},
        "sibling": {"type": "test.sleep@1", "inputs": {"seconds": 0.2}},
    }
    sweeping = asyncio.ensure_future(sweep(queue))
    ledger = await ended(queue, "held", nodes)
    await stop([sweeping])
    assert ledger["bad"]["status"] == "failed"
    assert ledger["bad"]["attempt"] == 2
    assert ledger["child"]["reason"] == "upstream-failed"
    assert ledger["sibling"]["attempt"] == 1, "committed once, not run again"


async def sweep(queue: Queue) -> None:
    while True:
        await queue.sweep(PROBLEM, PROBLEM)
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("node", "code"),
    [
        ({"type": "test.nothing@1"}, "node-failed"),
        ({"type": "test.sleep@1", "inputs": {"seconds": -1}}, "bad-input"),
        ({"type": "test.sleep@1", "inputs": {"seconds": 60}, "timeout": 0.1}, "timed-out"),
        ({"type": "test.noop@1", "inputs": {"value": {"$secret": "absent"}}}, "bad-input"),
        ({"type": "test.noop@1", "inputs": {"other": 1}}, "bad-input"),
    ],
)
async def test_what_goes_wrong_is_a_problem(queue: Queue, node: dict[str, Any], code: str) -> None:
    ledger = await ended(queue, f"wrong-{abs(hash(str(node)))}", {"a": node})
    assert ledger["a"]["problem"]["type"] == f"urn:spindle:problem:{code}"
    assert "Traceback" not in str(ledger)


async def test_it_registers_again_after_an_emptied_redis(queue: Queue) -> None:
    await queue.client.flushall()
    async with asyncio.timeout(120):
        while not await queue.client.zcard(keys.WORKERS):
            await asyncio.sleep(0.05)
    ledger = await ended(queue, "after", {"a": {"type": "test.noop@1", "inputs": {"value": 1}}})
    assert ledger["a"]["status"] == "completed"


async def test_nothing_is_left_behind(queue: Queue) -> None:
    await ended(queue, "left", {"a": {"type": "test.noop@1", "inputs": {"value": 1}}})
    async with asyncio.timeout(60):
        while await queue.client.zcard(keys.LEASES) or await queue.client.xlen(keys.queue("async")):
            await asyncio.sleep(0.05)
