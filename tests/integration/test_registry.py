"""A worker is shown once what it announces is known: who sees it may submit for it, whatever the database did."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spindle_common import keys
from spindle_common.queue import Queue
from support.control import API, Control, serving
from support.redis_server import RedisServer
from support.scripted import ScriptedWorker

NOOP = {"schema": "spindle.workflow/v1", "nodes": {"a": {"type": "test.noop@1"}}}


@pytest.fixture
async def control(
    queue: Queue, tmp_path: Path, quiet_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Control]:
    monkeypatch.setattr("spindle_control.database._BUSY_MS", 200)
    async with serving(tmp_path, quiet_server.url) as made:
        yield made


async def shown(control: Control) -> list[str]:
    return [worker["id"] for worker in (await control.http.get(f"{API}/workers")).json()["workers"]]


async def until_shown(control: Control, *names: str) -> None:
    async with asyncio.timeout(120):
        while await shown(control) != list(names):
            await asyncio.sleep(0.05)


async def test_a_worker_is_shown_with_its_types_or_not_at_all(
    control: Control, queue: Queue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = sqlite3.connect(tmp_path / "spindle.db", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    await ScriptedWorker(queue).register(1)
    async with asyncio.timeout(120):
        while "registry: The database does not answer." not in caplog.text:
            assert await shown(control) == []
            await asyncio.sleep(0.05)
    database.execute("ROLLBACK")
    database.close()
    await until_shown(control, "scripted")
    accepted = await control.http.post(f"{API}/runs", json={"workflow": NOOP})
    assert accepted.status_code == 202, accepted.text


async def test_a_worker_that_announces_nonsense_is_told_of_once(
    control: Control, queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    await queue.register("babbler", 60.0, '{"worker":1}', {"cpu": 1})
    async with asyncio.timeout(120):
        while "babbler announces no manifest" not in caplog.text:
            await asyncio.sleep(0.05)
    await ScriptedWorker(queue).register(1)
    await until_shown(control, "scripted")
    await asyncio.sleep(1.2)  # so that it is looked at again: whoever tells each time would do so now
    assert caplog.text.count("babbler announces no manifest") <= 2, "once each time that the workers change"
    assert await queue.client.zcard(keys.WORKERS) == 2
