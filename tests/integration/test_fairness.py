"""Who is served when not all can be: tenants in turn by weight, a tenant's own runs by priority; and who is given up.

A real control on a real Redis; the worker is scripted, so that the order in which tasks are taken is told exactly.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from spindle_common import keys
from spindle_common.queue import Queue
from spindle_control.api_keys import ApiKeys
from support.cluster import workflow
from support.control import API, Control, serving
from support.operating import RUNS, check_history, submit
from support.redis_server import RedisServer
from support.scripted import ScriptedWorker

Json = dict[str, Any]
LETTERS = f"{API}/dead-letters"
ONE = workflow({"a": {"type": "test.noop@1"}})
TWO = workflow({"a": {"type": "test.noop@1"}, "b": {"type": "test.noop@1", "inputs": {"in0": {"$from": "a.value"}}}})


class Shop:
    """A control, tenants with a key each, and the scripted worker."""

    def __init__(self, control: Control, queue: Queue) -> None:
        self.control, self.queue = control, queue
        self.worker = ScriptedWorker(queue)
        self._keys = ApiKeys(control.services.settings.keys_file)
        self._headers: dict[str, Json] = {}
        self.tenants: dict[str, str] = {}

    def headers(self, tenant: str) -> Json:
        if tenant not in self._headers:
            self._headers[tenant] = {"X-API-Key": self._keys.create(tenant)[1]}
        return self._headers[tenant]

    async def submit(self, tenant: str, document: Json = ONE, **more: Any) -> str:
        run = await submit(self.control.http, document, self.headers(tenant), **more)
        self.tenants[run] = tenant
        return run

    async def taken(self, lease: float = 60.0) -> Any:
        """The next task and the right to it."""
        async with asyncio.timeout(120):
            while not (found := await self.worker.take(1, lease)):
                await asyncio.sleep(0.01)
        return found[0]

    async def serve(self, count: int) -> list[str]:
        """Do so many tasks, one after the other; whose they were."""
        served = []
        for _ in range(count):
            task, right = await self.taken()
            await self.worker.complete(task, right)
            served.append(self.tenants[task.run])
        return served

    async def get(self, tenant: str, path: str, **params: Any) -> Json:
        response = await self.control.http.get(path, params=params, headers=self.headers(tenant))
        assert response.status_code == 200, response.text
        found: Json = response.json()
        return found

    async def post(self, tenant: str, path: str) -> Any:
        return await self.control.http.post(path, headers=self.headers(tenant))


@contextlib.asynccontextmanager
async def shop(folder: Path, redis: RedisServer, queue: Queue, **settings: Any) -> AsyncIterator[Shop]:
    await ScriptedWorker(queue).register(0)
    async with serving(folder, redis.url, fuse_chains=False, **settings) as control:
        yield Shop(control, queue)


async def test_a_tenant_with_one_run_does_not_wait_for_anothers_two_hundred(
    tmp_path: Path, quiet_server: RedisServer, queue: Queue
) -> None:
    async with shop(tmp_path, quiet_server, queue) as there:
        for _ in range(200):
            await there.submit("big")
        await there.worker.register(1)
        await there.submit("small")
        assert "small" in await there.serve(4), "two were bound already when it came"


async def test_drivers_are_shared_as_workers_are(tmp_path: Path, quiet_server: RedisServer, queue: Queue) -> None:
    async with shop(tmp_path, quiet_server, queue, max_driven_runs=2) as there:
        for _ in range(60):
            await there.submit("big")
        run = await there.submit("small")
        assert (await there.get("small", f"{RUNS}/{run}"))["status"] == "queued"
        await there.worker.register(1)
        assert "small" in await there.serve(5)


async def test_a_new_run_does_not_take_the_room_of_one_that_waits(
    tmp_path: Path, quiet_server: RedisServer, queue: Queue
) -> None:
    async with shop(tmp_path, quiet_server, queue, max_driven_runs=1) as there:
        first = await there.submit("zealous")
        await there.submit("modest")
        await there.worker.register(1)
        assert await there.serve(1) == ["zealous"]
        while there.control.services.driver.holds(first):
            await asyncio.sleep(0)
        await there.submit("zealous")
        assert await there.serve(2) == ["modest", "zealous"]


async def test_shares_follow_the_weights(tmp_path: Path, quiet_server: RedisServer, queue: Queue) -> None:
    async with shop(tmp_path, quiet_server, queue, tenant_weights={"big": 3}) as there:
        for _ in range(45):
            await there.submit("big")
            await there.submit("small")
        await there.worker.register(1)
        shares = Counter(await there.serve(40))
        assert 28 <= shares["big"] <= 32, shares


async def test_a_tenants_runs_go_by_priority(tmp_path: Path, quiet_server: RedisServer, queue: Queue) -> None:
    async with shop(tmp_path, quiet_server, queue) as there:
        runs = [await there.submit("one", priority=priority) for priority in (0, -5, 0, 7)]
        await there.worker.register(1)
        order = []
        for _ in runs:
            task, right = await there.taken()
            await there.worker.complete(task, right)
            order.append(runs.index(task.run))
        assert order == [3, 0, 2, 1]


async def dead(there: Shop, tenant: str) -> str:
    """A run whose second task kills its worker."""
    run = await there.submit(tenant, TWO)
    task, right = await there.taken()
    await there.worker.complete(task, right)
    while not (await there.get(tenant, LETTERS))["dead_letters"] or await there.queue.client.zcard(keys.LEASES):
        await there.worker.take(1, 0.0)
        await asyncio.sleep(0.05)
    found = await there.get(tenant, f"{RUNS}/{run}", wait="20s")
    assert (found["status"], found["problem"]["type"]) == ("failed", "urn:spindle:problem:crashed")
    return run


async def test_a_task_that_keeps_killing_workers_becomes_a_letter_and_is_redriven(
    tmp_path: Path, quiet_server: RedisServer, queue: Queue
) -> None:
    async with shop(tmp_path, quiet_server, queue, crash_budget=2) as there:
        await there.worker.register(1)
        run = await dead(there, "studio")
        (letter,) = (await there.get("studio", LETTERS))["dead_letters"]
        assert (letter["run"], letter["nodes"], letter["queue"], letter["attempts"]) == (run, ["b"], "async", 2)
        assert [(past["attempt"], past["cause"], past["worker"]) for past in letter["history"]] == [
            (1, "crash", "scripted"),
            (2, "crash", "scripted"),
        ]
        assert letter["problem"]["type"] == "urn:spindle:problem:crashed"
        redrive = f"{LETTERS}/{letter['id']}:redrive"
        assert (await there.post("other", redrive)).status_code == 404
        answers = await asyncio.gather(*(there.post("studio", redrive) for _ in range(3)))
        assert {answer.status_code for answer in answers} <= {202, 404}
        (again,) = {answer.json()["id"] for answer in answers if answer.status_code == 202}
        assert (await there.get("studio", LETTERS)) == {"dead_letters": [], "next": None}
        assert (await there.post("studio", redrive)).status_code == 404
        task, right = await there.taken()
        assert (task.run, task.task) == (again, f"{again}/b")
        await there.worker.complete(task, right)
        done = await there.get("studio", f"{RUNS}/{again}", wait="20s")
        assert (done["status"], done["parent"], done["nodes"]["a"]["reused"]) == ("completed", run, True)
        check_history((await there.get("studio", f"{RUNS}/{again}/events"))["events"])


async def test_letters_are_paged_and_kept_to_their_tenant(
    tmp_path: Path, quiet_server: RedisServer, queue: Queue
) -> None:
    async with shop(tmp_path, quiet_server, queue, crash_budget=1) as there:
        await there.worker.register(1)
        runs = []
        for tenant in ("one", "two", "one", "two", "one"):
            before = len((await there.get(tenant, LETTERS))["dead_letters"])
            run = await there.submit(tenant, ONE)
            while len((await there.get(tenant, LETTERS))["dead_letters"]) == before:
                await there.worker.take(1, 0.0)
                await asyncio.sleep(0.05)
            if tenant == "one":
                runs.append(run)
        first = await there.get("one", LETTERS, limit=2)
        rest = await there.get("one", LETTERS, limit=2, after=first["next"])
        assert [each["run"] for each in first["dead_letters"] + rest["dead_letters"]] == runs[::-1]
        assert rest["next"] is None
        assert (await there.get("one", LETTERS, limit=3))["next"] is None, "a full last page is the last"
        refused = await there.control.http.get(LETTERS, params={"after": "x"}, headers=there.headers("one"))
        assert refused.status_code == 400


@pytest.mark.parametrize("letter", ["x", "1", "-", "+", "1-0", "9" * 30 + "-0", "1-0%2F2"])
async def test_strange_letters_are_not_there(
    tmp_path: Path, quiet_server: RedisServer, queue: Queue, letter: str
) -> None:
    async with shop(tmp_path, quiet_server, queue) as there:
        assert (await there.control.http.post(f"{LETTERS}/{letter}:redrive")).status_code == 404
