"""Health tells the truth: it turns red, in words, when something stands still that should move, and green again."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from spindle_common import keys
from spindle_common.contracts import Manifest
from spindle_common.queue import Queue, QueueState
from spindle_control.registry import Registry
from spindle_control.standing import QueueWatch
from spindle_worker.catalog import node_specs
from support.control import API, Control, serving
from support.redis_server import RedisServer
from support.worker_process import WorkerProcess

NAP = {"schema": "spindle.workflow/v1", "nodes": {"a": {"type": "test.sleep@1", "inputs": {"seconds": 0.01}}}}


@pytest.fixture
async def control(queue: Queue, tmp_path: Path, quiet_server: RedisServer) -> AsyncIterator[Control]:
    async with serving(tmp_path / "control", quiet_server.url, stuck_seconds=1.5) as made:
        yield made


async def parts(control: Control, path: str = "/readyz") -> tuple[int, dict[str, Any]]:
    response = await control.http.get(path)
    return response.status_code, response.json()["parts"]


async def until(control: Control, status: int, part: str, again: Callable[[], None] = lambda: None) -> str:
    """Wait until the probe answers so, of this part alone; returns what it says of it. `again` is done before each."""
    async with asyncio.timeout(60):
        while True:
            again()
            found, told = await parts(control)
            red = {name for name, state in told.items() if not state["ok"]}
            if found == status and red == ({part} if status == 503 else set()):
                return str(told[part].get("detail", ""))
            await asyncio.sleep(0.1)


async def workers_are(control: Control, count: int) -> None:
    async with asyncio.timeout(60):
        while len((await control.http.get(f"{API}/workers")).json()["workers"]) != count:
            await asyncio.sleep(0.1)


async def submit(control: Control, document: dict[str, Any] = NAP) -> str:
    response = await control.http.post(f"{API}/runs", json={"workflow": document})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


async def test_all_is_well(control: Control) -> None:
    await until(control, 200, "driver")  # a busy machine may be late with the first round
    for path in ("/readyz", "/health"):
        status, told = await parts(control, path)
        assert status == 200
        assert {"database", "redis", "driver", "reconciler", "queues"} <= set(told)


async def announced(queue: Queue, worker: str) -> None:
    """A worker by the protocol alone: it has a slot for naps, and takes only what the test takes."""
    types = [spec.node_type("cpu") for spec in node_specs((), test_nodes=True).values()]
    manifest = Manifest(worker=worker, version="1", slots={"cpu": 1}, node_types=types)
    await queue.register(worker, 60.0, manifest.model_dump_json(by_alias=True), {"cpu": 1})


# Queues ---------------------------------------------------------------------------------------------------------------


async def test_a_worker_with_slots_that_never_takes(control: Control, queue: Queue) -> None:
    await announced(queue, "idler")
    await workers_are(control, 1)
    await until(control, 200, "queues")
    run = await submit(control)
    detail = await until(control, 503, "queues")
    assert "free slots" in detail
    assert "cpu for" in detail
    (taken,) = await queue.take("idler", "n1", 60.0, {"cpu": 1})
    assert taken.run == run
    await until(control, 200, "queues")


async def test_workers_that_are_stopped_but_hold_their_lease(
    control: Control, quiet_server: RedisServer, tmp_path: Path
) -> None:
    worker = WorkerProcess(tmp_path / "worker", quiet_server.url, SPINDLE_LEASE_SECONDS="30")
    try:
        await workers_are(control, 1)
        os.kill(worker.process.pid, signal.SIGSTOP)
        run = await submit(control)
        assert "free slots" in await until(control, 503, "queues")
        os.kill(worker.process.pid, signal.SIGCONT)
        await until(control, 200, "queues")
        record = (await control.http.get(f"{API}/runs/{run}?wait=60s", timeout=90)).json()
        assert record["status"] == "completed"
    finally:
        os.kill(worker.process.pid, signal.SIGCONT)
        worker.stop()


def measured(watch: QueueWatch, now: float, last: str = "1-0", oldest: float = 999.0, *, free: bool = True) -> float:
    watch.look("cpu", QueueState(5, 2, 1, oldest, last), free=free, now=now)
    return watch.stuck.get("cpu", 0.0)


def test_a_queue_that_moves_is_not_stuck() -> None:
    """However old its oldest task is: others may rightly go first."""
    watch = QueueWatch()
    assert [measured(watch, now, f"{now}-0") for now in range(100)] == [0.0] * 100


def test_a_busy_queue_is_not_stuck_nor_is_it_once_a_slot_comes_free() -> None:
    watch = QueueWatch()
    assert [measured(watch, now, free=now % 10 == 9) for now in range(100)] == [0.0] * 100


def test_a_queue_is_stuck_for_as_long_as_nothing_is_taken_beside_free_slots() -> None:
    watch = QueueWatch()
    assert [measured(watch, now) for now in (0, 10, 70)] == [0, 10, 70]
    assert measured(watch, 80, oldest=5.0) == 5.0, "what waits now has come late"
    assert measured(watch, 90, free=False) == 0.0
    assert measured(watch, 91) == 0.0


# Driver and reconciler ------------------------------------------------------------------------------------------------


async def test_a_loop_of_the_driver_that_hangs(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(Queue, "sweep", hang)
    assert "`sweep`" in await until(control, 503, "driver")


async def test_a_reconciler_that_hangs(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr("spindle_control.standing._LEAST_ROUND_SECONDS", 1.0)
    monkeypatch.setattr(Queue, "live_controls", hang)
    assert "reconciler" in await until(control, 503, "reconciler")


async def test_a_driver_that_does_not_read_its_stream(control: Control, queue: Queue) -> None:
    """As when its own reading loop is dead: the entries of others wait and wait."""
    driver = control.services.driver
    await queue.client.xadd(keys.drive(driver.owner), {"run": "x", "outcomes": "{}"})
    assert await queue.unread(driver.owner, "0") < 60
    async with asyncio.timeout(60):
        while await queue.unread(driver.owner, driver.read_until):
            await asyncio.sleep(0.01)
    await queue.client.xadd(keys.drive("dead"), {"run": "x", "outcomes": "{}"}, id="1000-0")
    assert await queue.unread("dead", "0") > 1e6

    def late() -> None:
        driver.reconciler.lag = 99.0  # each round of the reconciler measures it anew

    assert "99 s ago" in await until(control, 503, "driver", late)


async def test_a_run_whose_wake_was_lost_goes_on(
    control: Control, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last commit never reached the driver: the reconciler tells it, and counts that."""
    await announced(queue, "w")
    await workers_are(control, 1)
    run = await submit(control)
    async with asyncio.timeout(60):
        while not (taken := await queue.take("w", f"n{asyncio.get_running_loop().time()}", 60.0, {"cpu": 1})):
            await asyncio.sleep(0.05)
    task = keys.task(taken[0].task)
    await queue.client.hset(keys.ledger(run), "a", '{"status":"completed","attempt":1,"outputs":{}}')
    await queue.client.hset(task, "state", "done")
    await queue.client.zrem(keys.LEASES, taken[0].task)
    record = (await control.http.get(f"{API}/runs/{run}?wait=60s", timeout=90)).json()
    assert record["status"] == "completed"


async def test_a_run_that_stays_still_although_it_was_told(control: Control) -> None:
    reconciler = control.services.driver.reconciler

    def still() -> None:
        reconciler._idle["r1"] = asyncio.get_running_loop().time() - 100

    assert "r1 for 1" in await until(control, 503, "driver", still)
    await until(control, 200, "driver")  # the next round sees that it is not driven here


async def test_queues_that_are_no_longer_measured(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr("spindle_control.standing._LEAST_ROUND_SECONDS", 7.0)  # the reconciler goes round every five
    monkeypatch.setattr(Registry, "_measure", hang)
    assert "last looked at" in await until(control, 503, "queues")
