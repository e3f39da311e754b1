"""Clocks that are wrong by an hour: leases, timers and runs go by Redis TIME, so nothing changes."""

import asyncio
import time

import pytest

from chaos.arena import LEASE, Arena
from chaos.seeing import at_rest, executions, moment, of, page, work
from chaos.shapes import workflow
from spindle_control.client import Client
from support.faketime import Missing, faketime

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


async def test_clocks_an_hour_off_change_nothing(arena: Arena) -> None:
    try:
        late, early = faketime(-1), faketime(+1)
    except Missing as reason:
        pytest.skip(f"left out: {reason}")
    ordinary = list(arena.workers)
    skewed = arena.add_worker(**early)
    control = await asyncio.to_thread(lambda: arena.add_control(**late))
    await asyncio.to_thread(arena.settle_workers)
    retry = {"max_attempts": 3, "backoff": "1s"}
    nodes = {"a": work(5), "flaky": work(0, "a", retry=retry), "last": work(0, "flaky")}
    nodes["flaky"]["inputs"]["failures"] = 2
    try:
        async with Client(control.url) as client:
            runs = [(await client.submit(workflow(nodes)))["id"] for _ in range(12)]
            async with asyncio.timeout(60):
                while {line["run"] for line in executions(arena)}.isdisjoint(runs[-4:]):
                    await asyncio.sleep(0.05)
            for worker in ordinary:
                arena.kill_worker(worker)
            killed = time.time()
            records = await asyncio.gather(*(client.wait(run) for run in runs))
        assert {record["status"] for record in records} == {"completed"}
        feeds = [await page(arena.urls[0], run) for run in runs]
        started = [of(feed, "node.started", "a") for feed in feeds]
        again = [moment(starts[1]) - killed for starts in started if len(starts) > 1]
        assert again, "some were on the workers that died"
        assert max(again) <= LEASE + 2
        for feed in feeds:
            failed, tried = of(feed, "node.retrying", "flaky")[0], of(feed, "node.started", "flaky")[1]
            assert 0.9 <= moment(tried) - moment(failed) <= 3
        assert await at_rest(arena) == []
    finally:
        arena.kill_control(control)
        arena.kill_worker(skewed)
