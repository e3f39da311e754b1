"""A worker's probe says why it is not ready: it beats in vain, or its loop stands still."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from spindle_common.queue import Queue
from support.control import API, serving
from support.redis_server import RedisServer
from support.worker_process import WorkerProcess

BLOCKING = '''
import time

from spindle_worker.node import Context, Inputs, Outputs, node


class BlockInputs(Inputs):
    seconds: float


class Nothing(Outputs):
    pass


@node("rude.block@1", title="Block", queue="async")
async def block(inputs: BlockInputs, ctx: Context) -> Nothing:
    """Keeps the worker's own loop from going round."""
    time.sleep(inputs.seconds)
    return Nothing()
'''


@pytest.fixture
def worker(tmp_path: Path, fresh_redis: RedisServer) -> Iterator[WorkerProcess]:
    nodes = tmp_path / "rude.py"
    nodes.write_text(BLOCKING)
    settings: Any = {"SPINDLE_LEASE_SECONDS": "1.5", "SPINDLE_BEAT_SECONDS": "0.3", "SPINDLE_NODES": str(nodes)}
    with WorkerProcess(tmp_path / "worker", fresh_redis.url, **settings) as process:
        yield process


async def probe(queue: Queue) -> str:
    """Where the worker's probe is, once it is announced."""
    async with asyncio.timeout(60):
        while True:
            for key in await queue.client.keys("spindle:worker:*"):
                manifest = json.loads(await queue.client.hget(key, "manifest") or "{}")
                return str(manifest["metrics_url"]).replace("/metrics", "/readyz")
            await asyncio.sleep(0.1)


async def until(url: str, status: int) -> str:
    async with httpx.AsyncClient() as http, asyncio.timeout(120):
        while (response := await http.get(url)).status_code != status:
            await asyncio.sleep(0.05)
        return response.text


async def test_a_worker_says_why_it_is_not_ready(
    worker: WorkerProcess, fresh_redis: RedisServer, tmp_path: Path
) -> None:
    async with serving(tmp_path / "control", fresh_redis.url) as control:
        url = await probe(control.services.driver._parts.queue)
        await until(url, 200)
        block = {"schema": "spindle.workflow/v1", "nodes": {"a": {"type": "rude.block@1", "inputs": {"seconds": 5}}}}
        async with asyncio.timeout(120):
            while (await control.http.post(f"{API}/runs", json={"workflow": block})).status_code != 202:
                await asyncio.sleep(0.2)
        assert "loop has stood still" in await until(url, 503)
        await until(url, 200)
    await asyncio.to_thread(fresh_redis.stop)
    assert "last beat was answered" in await until(url, 503)
    await asyncio.to_thread(fresh_redis.start)
    await until(url, 200)
    assert worker.process.poll() is None
