"""Parts of one `spindle up` are killed while runs are under way: every run still ends, once."""

import asyncio
import random
from pathlib import Path
from typing import Any

import psutil
import pytest

from spindle_control.client import Client
from support.upped import Upped

RUNS = 12
PARTS = ("spindle_worker", "spindle_control", "spindle_worker")


def chain(length: int) -> dict[str, Any]:
    nodes: dict[str, Any] = {}
    for number in range(length):
        before = {"in1": {"$from": f"n{number - 1}.value"}} if number else {}
        nodes[f"n{number}"] = {
            "type": "test.sleep@1",
            "inputs": {"seconds": 0.5, "value": number} | before,
            "retry": {"max_attempts": 5},
        }
    return {
        "schema": "spindle.workflow/v1",
        "name": "chain",
        "nodes": nodes,
        "outputs": {"last": {"$from": "n5.value"}},
    }


@pytest.mark.slow
async def test_every_run_ends_once_though_workers_and_control_are_killed(tmp_path: Path) -> None:
    settings = {
        "SPINDLE_LEASE_SECONDS": "3",
        "SPINDLE_BEAT_SECONDS": "0.5",
        "SPINDLE_CONTROL_LEASE_SECONDS": "2",
        "SPINDLE_CONTROL_BEAT_SECONDS": "0.5",
    }
    upped = await asyncio.to_thread(lambda: Upped(tmp_path, None, **settings).ready())
    try:
        async with Client(upped.url, patience=60) as client:
            runs = [(await client.submit(chain(6)))["id"] for _ in range(RUNS)]
            chance = random.Random(7)
            for words in PARTS:
                await asyncio.sleep(chance.uniform(0.3, 1.5))
                _kill(upped, words)
                await asyncio.to_thread(upped.until, "starting it again")
            async with asyncio.timeout(90):
                records = await asyncio.gather(*(client.wait(run) for run in runs))
            assert [record["outputs"] for record in records] == [{"last": 5}] * RUNS
            for run in runs:
                ends = [event["type"] async for event in client.events(run) if event["type"].startswith("run.")]
                assert ends == ["run.queued", "run.started", "run.completed"]
    finally:
        await asyncio.to_thread(upped.stop)


def _kill(upped: Upped, words: str) -> None:
    found: psutil.Process = upped.part(words)
    found.kill()
    found.wait(10)
