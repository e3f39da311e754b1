"""Poison in a real worker: what kills, blocks or hoards ends its own attempts, and nothing else."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from spindle_common import keys
from spindle_common.connection import connect
from spindle_common.problems import Crashed
from spindle_common.queue import Offer, Queue, compact
from support import native_nodes
from support.cluster import Cluster, Process
from support.metronome import METRONOME
from support.redis_server import RedisServer

PROBLEM = Crashed("test").problem()
FIELDS: dict[str, str | int | float] = {
    "tenant": "default",
    "weight": 1,
    "priority": 0,
    "workflow": "{}",
    "inputs": "{}",
    "plan": "{}",
    "traceparent": "",
}
LEASE = 3.0


@pytest.fixture
def cluster(tmp_path: Path, fresh_redis: RedisServer) -> Iterator[Cluster]:
    settings: Any = {"SPINDLE_NODES": native_nodes.__file__, "SPINDLE_CPU_SLOTS": "2", "SPINDLE_DRAIN_SECONDS": "30"}
    cluster = Cluster(tmp_path, fresh_redis, covered=False, **settings)
    yield cluster
    cluster.close()


@pytest.fixture
async def queue(cluster: Cluster) -> AsyncIterator[Queue]:
    queue = Queue(connect(cluster.redis.url))
    yield queue
    await queue.client.aclose()


async def worker(cluster: Cluster, queue: Queue, **settings: str) -> Process:
    """Start a worker, and wait until its children are there."""
    before = await queue.client.zcard(keys.WORKERS)
    process = cluster.worker(**settings)
    async with asyncio.timeout(100):
        while await queue.client.zcard(keys.WORKERS) == before:
            await asyncio.sleep(0.05)
    run = f"warm-{before}"
    await offer(queue, run, "cpu", {"warm": {"type": "test.work@1"}})
    await ends(queue, run)
    return process


async def offer(queue: Queue, run: str, name: str, nodes: dict[str, Any], budget: int = 3) -> str:
    """Dispatch one task; returns its id."""
    await queue.open(run, status="running", owner="c1", epoch=1, fields=FIELDS)
    first = next(iter(nodes))
    body = {"schema": "spindle.task/v1", "run": run, "task": first, "queue": name, "nodes": nodes}
    starts = [path for path, node in nodes.items() if not node.get("needs")]
    assert await queue.dispatch(run, 1, [Offer(first, name, compact(body), list(nodes), starts)], budget) == "ok"
    return f"{run}/{first}"


async def ends(queue: Queue, run: str, seconds: float = 100) -> dict[str, Any]:
    """Wait until every node has ended; timers and leases are seen to meanwhile. Returns the ledger."""
    async with asyncio.timeout(seconds):
        while True:
            await queue.sweep(PROBLEM, PROBLEM)
            ledger = await queue.ledger(run)
            if all(o["status"] in ("completed", "failed", "skipped") for o in ledger.values()):
                return ledger
            await asyncio.sleep(0.02)


async def runs(queue: Queue, task: str) -> None:
    """Wait until a task runs."""
    async with asyncio.timeout(120):
        while True:
            if await queue.client.hget(keys.task(task), "state") == "running":
                return
            await asyncio.sleep(0.01)


def family(process: Process) -> list[psutil.Process]:
    one = psutil.Process(process._popen.pid)
    return [one, *one.children(recursive=True)]


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


async def until(holds: Any, seconds: float) -> float:
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)
    return time.monotonic() - began


# Crashes -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_crash_is_counted_and_leaves_other_attempts_alone(cluster: Cluster, queue: Queue) -> None:
    process = await worker(cluster, queue)
    beside = await offer(queue, "beside", "cpu", {"a": {"type": "test.work@1", "inputs": {"seconds": 4, "value": 1}}})
    poison = await offer(
        queue,
        "poison",
        "cpu",
        {
            "before": {"type": "test.work@1", "inputs": {"value": 7}},
            "bad": {"type": "test.segfault@1", "needs": ["before"], "inputs": {"in1": {"$from": "before.value"}}},
        },
        budget=2,
    )
    ledger = await ends(queue, "poison")
    assert ledger["before"]["attempt"] == 1, "committed before the crash, not run again"
    assert ledger["bad"]["status"] == "failed"
    assert ledger["bad"]["problem"]["type"] == "urn:spindle:problem:crashed"
    assert "SIGSEGV" in ledger["bad"]["problem"]["detail"]
    assert await queue.client.hget(keys.task(poison), "crash") == "2"
    ledger = await ends(queue, "beside")
    assert (ledger["a"]["outputs"]["value"], ledger["a"]["attempt"]) == (1, 1)
    assert not await queue.client.hget(keys.task(beside), "crash")
    assert process.alive


@pytest.mark.long
async def test_memory_beyond_its_bound_is_a_problem_of_the_node(cluster: Cluster, queue: Queue) -> None:
    await worker(cluster, queue, SPINDLE_CHILD_MEMORY=str(900 * 2**20))
    await offer(queue, "hog", "cpu", {"a": {"type": "test.hog@1", "inputs": {"mebibytes": 1500, "seconds": 60}}})
    ledger = await ends(queue, "hog")
    assert ledger["a"]["problem"]["type"] == "urn:spindle:problem:out-of-memory"


@pytest.mark.slow
@pytest.mark.parametrize("hold", [False, pytest.param(True, marks=pytest.mark.long)])
async def test_an_endless_loop_is_cancelled_within_two_seconds(cluster: Cluster, queue: Queue, hold: bool) -> None:
    process = await worker(cluster, queue)
    task = await offer(queue, "spin", "cpu", {"a": {"type": "test.spin@1", "inputs": {"hold": hold}}})
    await runs(queue, task)
    before = {p.pid for p in family(process)}
    await asyncio.sleep(1)
    began = time.time()
    await queue.finish("spin", None, "cancelled", "{}")
    await until(lambda: before - {p.pid for p in living(family(process))}, 60)
    assert time.time() - began - METRONOME.lost(began) < 2
    await offer(queue, "after", "cpu", {"a": {"type": "test.work@1", "inputs": {"value": 1}}})
    assert (await ends(queue, "after"))["a"]["status"] == "completed"


@pytest.mark.long
async def test_bounds_of_time(cluster: Cluster, queue: Queue) -> None:
    await worker(cluster, queue)
    talk = {"type": "test.work@1", "inputs": {"seconds": 1.5}, "idle": 0.8}
    await offer(queue, "talks", "cpu", {"a": talk})
    silent = talk | {"inputs": {"seconds": 1.5, "report": False}}
    await offer(queue, "silent", "cpu", {"a": silent, "b": {"type": "test.work@1", "inputs": {"value": 2}}})
    await offer(queue, "long", "cpu", {"a": {"type": "test.spin@1", "timeout": 0.5}})
    assert (await ends(queue, "talks"))["a"]["status"] == "completed"
    ledger = await ends(queue, "silent")
    assert ledger["a"]["problem"]["type"] == "urn:spindle:problem:timed-out"
    assert "reported nothing for 0.8 s" in ledger["a"]["problem"]["detail"]
    assert ledger["b"]["status"] == "completed", "a sibling goes on"
    assert "took longer than 0.5 s" in (await ends(queue, "long"))["a"]["problem"]["detail"]


# The worker's own death ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", pytest.param("2", marks=pytest.mark.long)])
async def test_nothing_outlives_a_killed_worker(cluster: Cluster, queue: Queue, threads: str) -> None:
    process = await worker(cluster, queue, SPINDLE_THREADS=threads)
    for number, hold in enumerate([True, False]):
        nodes = {"a": {"type": "test.spin@1", "inputs": {"hold": hold}}}
        await runs(queue, await offer(queue, f"spin-{number}", "cpu", nodes))
    await asyncio.sleep(1)
    everyone = family(process)
    assert len(everyone) >= 4, "the worker, its forkserver, two children"
    began = time.time()
    process.kill()
    assert await until(lambda: not living(everyone), 60) - METRONOME.lost(began) < 2


@pytest.mark.long
async def test_a_worker_told_to_stop_hands_back_and_leaves_no_process(cluster: Cluster, queue: Queue) -> None:
    process = await worker(cluster, queue, SPINDLE_DRAIN_SECONDS="1")
    task = await offer(queue, "spin", "cpu", {"a": {"type": "test.spin@1"}})
    await runs(queue, task)
    everyone = family(process)
    began = time.monotonic()
    await asyncio.to_thread(process.stop)
    assert time.monotonic() - began < 6
    assert not living(everyone)
    fields = await queue.client.hgetall(keys.task(task))
    assert (fields["state"], fields["drain"], fields.get("crash")) == ("ready", "1", None)


@pytest.mark.long
async def test_a_second_signal_ends_a_worker_at_once(cluster: Cluster, queue: Queue) -> None:
    process = await worker(cluster, queue)
    tasks = [
        await offer(queue, "long", "cpu", {"a": {"type": "test.work@1", "inputs": {"seconds": 60}}}),
        await offer(queue, "light", "async", {"a": {"type": "test.sleep@1", "inputs": {"seconds": 60}}}),
    ]
    for task in tasks:
        await runs(queue, task)
    process.signal(signal.SIGTERM)
    await asyncio.sleep(0.5)
    assert process.alive, "it drains"
    everyone = family(process)
    process.signal(signal.SIGTERM)
    assert await until(lambda: not living(everyone), 10) < 4
    for task in tasks:
        assert await queue.client.hget(keys.task(task), "drain") == "1"


# Beats ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_node_that_blocks_the_event_loop_keeps_its_lease(cluster: Cluster, queue: Queue) -> None:
    await worker(cluster, queue)
    nodes = {"a": {"type": "test.block@1", "inputs": {"seconds": 2 * LEASE, "value": 1}}}
    await offer(queue, "block", "async", nodes)
    ledger = await ends(queue, "block")
    assert (ledger["a"]["status"], ledger["a"]["attempt"]) == ("completed", 1)


@pytest.mark.long
async def test_a_stopped_worker_loses_its_lease_and_its_commits_are_refused(cluster: Cluster, queue: Queue) -> None:
    first = await worker(cluster, queue)
    task = await offer(queue, "zombie", "async", {"a": {"type": "test.sleep@1", "inputs": {"seconds": 1.0}}})
    await runs(queue, task)
    first.signal(signal.SIGSTOP)
    await worker(cluster, queue)
    ledger = await ends(queue, "zombie")
    assert (ledger["a"]["status"], ledger["a"]["attempt"]) == ("completed", 2)
    before = int(await queue.client.hget(keys.COUNTERS, "fences_refused") or 0)
    first.signal(signal.SIGCONT)
    await asyncio.sleep(2)
    assert first.alive
    assert int(await queue.client.hget(keys.COUNTERS, "fences_refused") or 0) > before, "its beat, or its commit"
    assert (await queue.ledger("zombie")) == ledger, "nothing of the zombie is seen"


@pytest.mark.long
async def test_a_worker_that_cannot_beat_for_a_lease_gives_up_by_itself(cluster: Cluster, queue: Queue) -> None:
    process = await worker(cluster, queue)
    task = await offer(queue, "cut", "cpu", {"a": {"type": "test.spin@1"}})
    await runs(queue, task)
    spinning = family(process)
    await asyncio.sleep(1)
    redis = cluster.redis.pid
    os.kill(redis, signal.SIGSTOP)
    try:
        took = await until(lambda: len(living(spinning)) < len(spinning), 30)
    finally:
        os.kill(redis, signal.SIGCONT)
    assert took < 3 * LEASE
    assert "lost the right" in process.log.read_text()
