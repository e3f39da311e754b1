"""Many stuck WebSockets, many queued runs: memory is bounded, nobody else notices.

SPINDLE_CHAOS_FULL=1 takes the figures of the promise (1,000 and 10,000); CI a tenth and less.
"""

import asyncio
import os
import time

import httpx
import psutil
import pytest

from chaos.arena import Arena
from chaos.seeing import Json, at_rest, page, until_running, warmed, work
from chaos.shapes import workflow
from chaos.watchers import Stuck
from spindle_control.client import Client

FULL = bool(os.environ.get("SPINDLE_CHAOS_FULL"))
pytestmark = [pytest.mark.long, pytest.mark.timeout(1800 if FULL else 300)]
SOCKETS = 1000 if FULL else 150
RUNS = 10_000 if FULL else 600
MIB = 1024 * 1024


def rss(arena: Arena) -> int:
    """Memory of the first control, in bytes."""
    return int(psutil.Process(arena.controls[0].process.pid).memory_info().rss)


async def peak(arena: Arena, until: "asyncio.Task[None]") -> int:
    """The most that the first control took meanwhile."""
    most = rss(arena)
    while not until.done():
        most = max(most, rss(arena))
        await asyncio.sleep(0.1)
    await until
    return most


async def test_stuck_sockets_cost_a_bounded_piece_of_memory(arena: Arena) -> None:
    """A run with 3 MB of events, watched by sockets that nobody reads, and by one that somebody reads."""
    nodes: dict[str, Json] = {"n0": work(1.5)}
    for number in range(1, 60):
        nodes[f"n{number}"] = work(0.05, f"n{number - 1}")
        nodes[f"n{number}"]["inputs"]["value"] = {"$from": "inputs.large"}
    document = workflow(nodes) | {"inputs": {"large": {"type": "string", "default": "x" * 50_000}}}
    await warmed(arena)
    url = arena.urls[0]
    async with Client(url) as client:
        run = (await client.submit(document))["id"]
        before = rss(arena)
        stuck = await asyncio.gather(*(asyncio.to_thread(Stuck, url, run) for _ in range(SOCKETS)))
        try:
            assert {each.status for each in stuck} == {b"101"}
            seen: list[Json] = []

            async def read() -> None:
                seen.extend([event async for event in client.events(run) if "id" in event])

            grown = await peak(arena, asyncio.create_task(read())) - before
            assert seen == await page(url, run), "who reads is not held up"
            await asyncio.sleep(1)
        finally:
            for each in stuck:
                each.close()
    whole = SOCKETS * 60 * 50_000
    print(f"{SOCKETS} stuck sockets, {grown / MIB:.1f} MiB more")
    assert grown < whole / 4, f"{grown / MIB:.0f} MiB for {SOCKETS} sockets; {whole / MIB:.0f} MiB were sent"
    assert await at_rest(arena) == []


async def test_queued_runs_cost_a_bounded_piece_of_memory(arena: Arena) -> None:
    url = arena.urls[0]
    async with Client(url, patience=120) as client:
        blockers = [(await client.submit(workflow({"a": work(600)})))["id"] for _ in range(96)]
        await until_running(client, blockers[0], "a")
        before = rss(arena)
        document = {"workflow": workflow({"a": work(0)})}
        runs: list[str] = []

        async def submit(count: int) -> None:
            async with httpx.AsyncClient(timeout=60) as http:
                for _ in range(count):
                    answer = await http.post(f"{url}/api/v1/runs", json=document)
                    assert answer.status_code == 202, answer.text
                    runs.append(answer.json()["id"])

        began = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(submit(RUNS // 8))
        took = time.monotonic() - began
        grown = rss(arena) - before
        statuses = {(await client.get(run))["status"] for run in runs[-20:]}
        assert statuses == {"queued"}
        assert grown < 32 * MIB + RUNS * 4096, f"{grown / MIB:.0f} MiB for {RUNS} queued runs"
        print(f"{RUNS} accepted in {took:.1f} s, {grown / MIB:.1f} MiB more")
        await asyncio.gather(*(client.cancel(run) for run in blockers))
        async with asyncio.timeout(30 + RUNS / 10):
            while True:
                pages = [await client.runs(status=status, limit=1) for status in ("queued", "running")]
                if not any(found["runs"] for found in pages):
                    break
                await asyncio.sleep(0.5)
        records = [await client.get(run) for run in runs[:: max(1, RUNS // 50)]]
        assert {record["status"] for record in records} == {"completed"}
    assert await at_rest(arena) == []
