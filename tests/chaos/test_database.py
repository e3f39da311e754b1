"""The database locked: ends are fixed in Redis, their copies follow."""

import asyncio
import sqlite3

import pytest

from chaos.arena import Arena
from chaos.seeing import at_rest, until_running, warmed, work
from chaos.shapes import workflow
from spindle_control.client import Client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


async def test_a_locked_database_is_waited_for(arena: Arena) -> None:
    await warmed(arena)
    database = sqlite3.connect(arena.folder / "spindle.db", timeout=30, isolation_level=None)
    async with Client(arena.urls[0], patience=60) as client:
        runs = [(await client.submit(workflow({"a": work(0.5), "b": work(0, "a")})))["id"] for _ in range(10)]
        await until_running(client, runs[0], "a")
        database.execute("BEGIN IMMEDIATE")
        submitting = asyncio.create_task(client.submit(workflow({"a": work(0)})))
        await asyncio.sleep(4)
        held = [(await client.get(run))["status"] for run in runs]
        database.execute("ROLLBACK")
        database.close()
        assert set(held) == {"completed"}, "Redis fixed their ends, the copies follow"
        records = await asyncio.gather(*(client.wait(run) for run in [*runs, (await submitting)["id"]]))
    assert {record["status"] for record in records} == {"completed"}
    assert await at_rest(arena) == []
