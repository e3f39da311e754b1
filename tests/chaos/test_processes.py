"""Workers and controls that die or stand still: each promise of design §6 that names them, with its bound.

Times are those of Redis, as event ids carry them, not those of this process.
"""

import asyncio
import signal
import time

import pytest

from chaos.arena import CONTROL_LEASE, LEASE, Arena
from chaos.seeing import at_rest, executions, moment, of, page, until_running, work, worker_with
from chaos.shapes import workflow
from spindle_common import keys
from spindle_control.client import Client
from support.metronome import METRONOME

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


async def test_a_killed_workers_node_starts_again_within_lease_and_two_seconds(arena: Arena) -> None:
    async with Client(arena.urls[0]) as client:
        run = (await client.submit(workflow({"a": work(1), "b": work(0, "a")})))["id"]
        await until_running(client, run, "a")
        arena.kill_worker(await worker_with(arena, f"{run}/a"))
        killed = time.time()
        record = await client.wait(run)
    events = await page(arena.urls[0], run)
    _, second = of(events, "node.started", "a")
    assert record["status"] == "completed"
    assert record["nodes"]["a"]["attempt"] == 2
    assert moment(second) - killed - METRONOME.lost(killed, moment(second)) <= LEASE + 2
    assert [event["attempt"] for event in of(events, "node.completed", "a")] == [2]
    assert await at_rest(arena) == [], "the dead worker's slots came back, its consumer went"


async def test_a_worker_that_stood_still_is_refused(arena: Arena) -> None:
    async with Client(arena.urls[0]) as client:
        run = (await client.submit(workflow({"a": work(2.5), "b": work(0.1, "a")})))["id"]
        await until_running(client, run, "a")
        zombie = await worker_with(arena, f"{run}/a")
        zombie.signal(signal.SIGSTOP)
        await asyncio.sleep(LEASE + 0.5)
        async with asyncio.timeout(60):
            while (node := (await client.get(run))["nodes"]["a"])["attempt"] != 2 or node["status"] != "running":
                await asyncio.sleep(0.02)
        zombie.signal(signal.SIGCONT)
        record = await client.wait(run)
    events = await page(arena.urls[0], run)
    assert record["status"] == "completed"
    assert [event["attempt"] for event in of(events, "node.started", "a")] == [1, 2]
    assert [event["attempt"] for event in of(events, "node.completed", "a")] == [2], "the zombie's commit was refused"
    await asyncio.to_thread(arena.settle_workers)
    assert await at_rest(arena) == []


async def test_a_killed_controls_runs_are_adopted_within_five_seconds(arena: Arena) -> None:
    """With the default lease of four seconds, the one that the promise is about."""
    defaults = {
        "SPINDLE_CONTROL_LEASE_SECONDS": "4",
        "SPINDLE_CONTROL_BEAT_SECONDS": "1",
        "SPINDLE_FUSE_CHAINS": "false",
    }
    doomed = await asyncio.to_thread(lambda: arena.add_control(**defaults))
    nodes = {"quick": work(0), "slow": work(1.5, "quick"), "next": work(0, "slow"), "last": work(0, "next", "quick")}
    async with Client(doomed.url) as client:
        run = (await client.submit(workflow(nodes)))["id"]
        await until_running(client, run, "slow")
        before = await page(doomed.url, run)
    arena.kill_control(doomed)
    killed = time.time()
    async with Client(arena.urls[1]) as client:
        after = [event async for event in client.events(run, after=before[-1]["id"]) if "id" in event]
        record = await client.wait(run)
    events = await page(arena.urls[0], run)
    assert record["status"] == "completed"
    assert before + after == events, "the cursor goes on unbroken on another control"
    (adopted,) = of(events, "node.queued", "next")
    assert moment(adopted) - killed - METRONOME.lost(killed, moment(adopted)) <= 5.0
    assert {node["attempt"] for node in record["nodes"].values()} == {1}
    begun = [line for line in executions(arena) if line["run"] == run and line["what"] == "begin"]
    assert len(begun) == len(nodes), "no node ran again"


async def test_a_control_that_stood_still_is_refused(arena: Arena) -> None:
    frozen, other = arena.controls
    nodes = {"slow": work(CONTROL_LEASE + 1), "last": work(0.5, "slow")}
    async with Client(frozen.url) as client:
        run = (await client.submit(workflow(nodes)))["id"]
        await until_running(client, run, "slow")
    redis = arena.client()
    owner = await redis.hget(keys.run(run), "owner")
    frozen.process.signal(signal.SIGSTOP)
    async with asyncio.timeout(120):
        while await redis.hget(keys.run(run), "owner") == owner:
            await asyncio.sleep(0.05)
    frozen.process.signal(signal.SIGCONT)
    epoch = await redis.hget(keys.run(run), "epoch")
    async with Client(other.url) as client:
        record = await client.wait(run)
    assert record["status"] == "completed"
    assert {node["attempt"] for node in record["nodes"].values()} == {1}
    assert epoch == "2"
    assert await redis.hget(keys.run(run), "epoch") in ("2", None), "the zombie took nothing back"
    await redis.aclose()
    events = await page(other.url, run)
    assert [event["type"] for event in events].count("run.completed") == 1
    assert await page(frozen.url, run) == events
    assert await at_rest(arena) == []


async def test_a_cancel_against_a_completion_has_one_winner(arena: Arena) -> None:
    winners = set()
    async with Client(arena.urls[0]) as one, Client(arena.urls[1]) as other:
        for number in range(30):
            run = (await one.submit(workflow({"a": work(0), "b": work(0, "a")})))["id"]
            await asyncio.sleep(number * 0.001)
            answers = await asyncio.gather(one.cancel(run), other.cancel(run))
            record = await other.wait(run)
            assert {answer["status"] for answer in answers} == {record["status"]}
            ends = [event["type"] for event in await page(arena.urls[0], run)][-1:]
            assert ends == [f"run.{record['status']}"]
            winners.add(record["status"])
    assert "cancelled" in winners
    assert await at_rest(arena) == []


async def test_a_cancel_reaches_running_nodes_within_two_seconds(arena: Arena) -> None:
    async with Client(arena.urls[0]) as client:
        runs = [(await client.submit(workflow({"a": work(30), "b": work(0, "a")})))["id"] for _ in range(20)]
        for run in runs:
            await until_running(client, run, "a")
        asked = time.time()
        records = await asyncio.gather(*(client.cancel(run) for run in runs))
    assert {record["status"] for record in records} == {"cancelled"}
    assert await at_rest(arena) == []
    stopped = {line["run"]: line["at"] - asked for line in executions(arena) if line["what"] == "stop"}
    assert stopped.keys() >= set(runs), "each node was stopped where it ran"
    last = max(stopped[run] for run in runs)
    assert last - METRONOME.lost(asked, asked + last) <= 2.0
