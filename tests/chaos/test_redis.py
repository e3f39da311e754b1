"""Redis killed, away, emptied, cut off, its messages doubled and its answers lost (design §6).

SPINDLE_CHAOS_FULL=1 keeps it away as long as the promise says (30 s); otherwise for less, so that CI stays short.
"""

import asyncio
import os
import time
from collections import Counter

import httpx
import pytest

from chaos.arena import CONTROL_LEASE, LEASE, Arena
from chaos.faults import FAULTS
from chaos.seeing import Json, at_rest, executions, moment, of, page, until_running, work
from chaos.shapes import workflow
from spindle_control.client import Client

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
FULL = bool(os.environ.get("SPINDLE_CHAOS_FULL"))
BACK_WITHIN = 10.0


async def work_again(arena: Arena, since: float) -> None:
    """A new run is accepted and completes, in the time that the promise gives."""
    async with Client(arena.urls[0], patience=BACK_WITHIN) as client:
        record = await client.run_and_wait(workflow({"a": work(0)}))
    assert record["status"] == "completed"
    assert time.monotonic() - since <= BACK_WITHIN
    async with asyncio.timeout(BACK_WITHIN), httpx.AsyncClient() as http:
        for url in arena.urls:
            while (await http.get(f"{url}/health")).status_code != 200:
                await asyncio.sleep(0.1)


def begun_once(arena: Arena, runs: list[str]) -> bool:
    """Whether no attempt at any node was run twice."""
    begun = Counter((e["run"], e["node"], e["attempt"]) for e in executions(arena) if e["what"] == "begin")
    return all(times == 1 for (run, _, _), times in begun.items() if run in runs)


async def any_begun(arena: Arena, runs: list[str]) -> str:
    """One of the runs whose node has begun."""
    async with asyncio.timeout(60):
        while not (begun := {line["run"] for line in executions(arena)} & set(runs)):
            await asyncio.sleep(0.05)
    return str(min(begun))


async def types_of(client: Client, run: str) -> list[str]:
    """Types of the events that a watcher of a run sees, up to its end."""
    return [event["type"] async for event in client.events(run) if event["type"] != "node.progress"]


async def test_redis_killed_loses_nothing(arena: Arena) -> None:
    nodes = {"a": work(0.5), "b": work(0.5, "a"), "c": work(0, "b")}
    async with Client(arena.urls[0], patience=60) as client:
        runs = [(await client.submit(workflow(nodes)))["id"] for _ in range(20)]
        for away in (0.0, 1.0):
            await asyncio.sleep(0.4)
            await arena.restart_redis(away)
        back = time.monotonic()
        await work_again(arena, back)
        records = await asyncio.gather(*(client.wait(run) for run in runs))
    assert {record["status"] for record in records} == {"completed"}
    for run in runs:
        ends = Counter(event["node"] for event in await page(arena.urls[1], run) if event["type"] == "node.completed")
        assert ends == dict.fromkeys(nodes, 1)
    assert begun_once(arena, runs)
    assert await at_rest(arena) == []


async def test_redis_away_is_told_and_survived(arena: Arena) -> None:
    away = 30.0 if FULL else 7.0
    async with Client(arena.urls[0], patience=90) as client, httpx.AsyncClient(timeout=30) as http:
        runs = [(await client.submit(workflow({"a": work(1), "b": work(0, "a")})))["id"] for _ in range(10)]
        arena.pause_redis()
        stopped = time.monotonic()
        try:
            document = {"workflow": workflow({"a": work(0)})}
            refused = await http.post(f"{arena.urls[0]}/api/v1/runs", json=document)
            ready = [(await http.get(f"{url}/readyz")).status_code for url in arena.urls]
            alive = [(await http.get(f"{url}/livez")).status_code for url in arena.urls]
            await asyncio.sleep(max(0.0, away - (time.monotonic() - stopped)))
        finally:
            arena.resume_redis()
        back = time.monotonic()
        assert refused.status_code == 503
        assert refused.headers["content-type"] == "application/problem+json"
        assert float(refused.headers["Retry-After"]) > 0
        assert ready == [503, 503]
        assert alive == [200, 200]
        await work_again(arena, back)
        records = await asyncio.gather(*(client.wait(run) for run in runs))
    assert {record["status"] for record in records} == {"completed"}
    assert begun_once(arena, runs)
    assert await at_rest(arena) == []


async def test_an_emptied_redis_is_reported_and_healed(arena: Arena) -> None:
    async with Client(arena.urls[0], patience=60) as client:
        submitting = [client.submit(workflow({"a": work(600)})) for _ in range(2 * 48 + 12)]
        runs = [record["id"] for record in await asyncio.gather(*submitting)]
        watched = await any_begun(arena, runs)
        states: dict[str, str] = {}
        while list(states.values()).count("running") < 2 * 48:  # each control drives 48; one may still be starting
            states = {run: (await client.get(run))["status"] for run in runs}
        watching = asyncio.create_task(types_of(client, watched))
        await asyncio.sleep(0.3)
        redis = arena.client()
        await redis.flushall()
        await redis.aclose()
        emptied = time.monotonic()
        running = [run for run in runs if states[run] == "running"]
        ended = await asyncio.gather(*(client.wait(run) for run in running))
        assert (await watching)[-1] == "gap", "who watches is told"
        assert time.monotonic() - emptied < 15
        assert {(record["status"], record["problem"]["type"].rpartition(":")[2]) for record in ended} == {
            ("failed", "state-lost")
        }
        assert all(record["problem"]["retryable"] for record in ended)
        queued = [run for run in runs if states[run] == "queued"]
        assert queued, "more were submitted than a control drives"
        for run in queued:
            await until_running(client, run, "a")
            assert (await client.cancel(run))["status"] == "cancelled"
    await asyncio.to_thread(arena.settle_workers)
    await work_again(arena, time.monotonic())
    assert await at_rest(arena) == []


async def test_lost_groups_are_made_again(arena: Arena) -> None:
    nodes = {"a": work(0.3), "b": work(0.3, "a"), "c": work(0, "b")}
    async with Client(arena.urls[0]) as client:
        runs = [(await client.submit(workflow(nodes)))["id"] for _ in range(60)]
        redis = arena.client()
        for _ in range(5):
            await asyncio.sleep(0.2)
            for key in [key async for key in redis.scan_iter("spindle:queue:*")]:
                await redis.xgroup_destroy(key, "workers")
        await redis.aclose()
        records = await asyncio.gather(*(client.wait(run) for run in runs))
    assert {record["status"] for record in records} == {"completed"}
    assert begun_once(arena, runs)
    assert await at_rest(arena) == []


async def test_workers_cut_off_stop_when_their_lease_ends(arena: Arena) -> None:
    async with Client(arena.urls[0], patience=60) as client:
        runs = [(await client.submit(workflow({"a": work(8)})))["id"] for _ in range(4)]
        for run in runs:
            await until_running(client, run, "a")
        cut = time.time()
        arena.proxies["worker"].cut()
        await asyncio.sleep(LEASE + 1.5)
        arena.proxies["worker"].heal()
        records = await asyncio.gather(*(client.wait(run) for run in runs))
    stopped = [e["at"] - cut for e in executions(arena) if e["what"] == "stop" and e["run"] in runs]
    assert {record["status"] for record in records} == {"completed"}
    assert len(stopped) == len(runs), "each fenced itself"
    assert max(stopped) <= LEASE + 1.0, "lease, and two beats to notice"
    for run in runs:
        starts = of(await page(arena.urls[0], run), "node.started", "a")
        assert [event["attempt"] for event in starts] == [1, 2]
    await asyncio.to_thread(arena.settle_workers)
    assert await at_rest(arena) == []


async def test_controls_cut_off_let_workers_work_and_dispatch_nothing_twice(arena: Arena) -> None:
    nodes = {"a": work(0.8), "b": work(0, "a"), "c": work(0, "a"), "d": work(0, "b", "c")}
    async with Client(arena.urls[0], patience=60) as client:
        runs = [(await client.submit(workflow(nodes)))["id"] for _ in range(10)]
        for run in runs:
            await until_running(client, run, "a")
        arena.proxies["control"].cut()
        cut = time.time()
        await asyncio.sleep(CONTROL_LEASE + 2)
        healed = time.time()
        arena.proxies["control"].heal()
        records = await asyncio.gather(*(client.wait(run) for run in runs))
    assert {record["status"] for record in records} == {"completed"}
    for run, record in zip(runs, records, strict=True):
        (end,) = of(await page(arena.urls[0], run), "node.completed", "a")
        assert moment(end) < healed or cut > healed, "the commit did not wait for control"
        assert {node["attempt"] for node in record["nodes"].values()} == {1}
    assert begun_once(arena, runs)
    assert await at_rest(arena) == []


async def test_doubled_messages_and_lost_answers_change_nothing(arena: Arena) -> None:
    nodes = {"a": work(0.2), "b": work(0.1, "a"), "c": work(0.1, "a"), "d": work(0, "b", "c")}
    keys = [f"doubled-{time.time_ns()}-{number}" for number in range(30)]
    before = sum(proxy.swallowed for proxy in arena.proxies.values())
    async with Client(arena.urls[0], patience=60) as one, Client(arena.urls[1], patience=60) as other:
        asking = [client.submit(workflow(nodes), idempotency_key=key) for key in keys for client in (one, other, one)]
        answers = asyncio.gather(*asking)
        for _ in range(12):
            for proxy in arena.proxies.values():
                proxy.swallow(2)
            await asyncio.sleep(0.15)
            for name in ("repeat-entries", "repeat-wakes"):
                await FAULTS[name].work(arena, None)  # type: ignore[arg-type]
        accepted: list[Json] = await answers
        for proxy in arena.proxies.values():
            proxy.heal()
        runs = [record["id"] for record in accepted]
        assert [len(set(runs[at : at + 3])) for at in range(0, len(runs), 3)] == [1] * len(keys)
        records = await asyncio.gather(*(one.wait(run) for run in set(runs)))
    assert sum(proxy.swallowed for proxy in arena.proxies.values()) > before + 10
    assert {record["status"] for record in records} == {"completed"}
    for run in set(runs):
        ends = Counter(event["node"] for event in await page(arena.urls[0], run) if event["type"] == "node.completed")
        assert ends == dict.fromkeys(nodes, 1)
    assert begun_once(arena, runs)
    assert await at_rest(arena) == []
