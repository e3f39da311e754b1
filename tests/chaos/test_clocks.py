"""Clocks that are wrong by an hour: leases, timers and runs go by Redis TIME, so nothing changes."""

import asyncio
import time

import pytest

from chaos.arena import LEASE, Arena
from chaos.seeing import at_rest, moment, of, page, until_running, work, worker_with
from chaos.shapes import workflow
from spindle_control.client import Client
from support.faketime import Missing, faketime

pytestmark = pytest.mark.slow


async def test_clocks_an_hour_off_change_nothing(arena: Arena) -> None:
    try:
        late, early = faketime(-1), faketime(+1)
    except Missing as reason:
        pytest.skip(f"left out: {reason}")
    for worker in list(arena.workers):
        arena.kill_worker(worker)
    arena.add_worker(**late)
    control = await asyncio.to_thread(lambda: arena.add_control(**early))
    await asyncio.to_thread(arena.settle_workers)
    retry = {"max_attempts": 3, "backoff": "1s"}
    nodes = {"a": work(1), "flaky": work(0, "a", retry=retry), "last": work(0, "flaky")}
    nodes["flaky"]["inputs"]["failures"] = 2  # the first attempt is the one that is killed
    try:
        async with Client(control.url) as client:
            run = (await client.submit(workflow(nodes)))["id"]
            await until_running(client, run, "a")
            other = arena.add_worker(**early)
            assert other is not await worker_with(arena, f"{run}/a")
            arena.kill_worker(arena.workers[0])
            killed = time.time()
            record = await client.wait(run)
        events = await page(arena.urls[0], run)
        assert record["status"] == "completed"
        assert moment(of(events, "node.started", "a")[1]) - killed <= LEASE + 2 + 20, "a worker's start-up included"
        failed, again = of(events, "node.retrying", "flaky")[0], of(events, "node.started", "flaky")[-1]
        assert 0.9 <= moment(again) - moment(failed) <= 3
        assert control.process.alive
        assert await at_rest(arena) == []
    finally:
        arena.kill_control(control)
        for worker in list(arena.workers):
            arena.kill_worker(worker)
