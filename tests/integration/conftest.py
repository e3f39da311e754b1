"""What the tests of the API share: one worker for all, a control plane for each."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from support.control import API, Control, serving
from support.redis_server import RedisServer
from support.worker_process import WorkerProcess


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory, redis_server: RedisServer) -> Iterator[WorkerProcess]:
    with WorkerProcess(tmp_path_factory.mktemp("worker"), redis_server.url) as process:
        yield process


@pytest.fixture
async def staffed(tmp_path: Path, redis_server: RedisServer, worker: WorkerProcess) -> AsyncIterator[Control]:
    """A control plane that sees a worker with test nodes."""
    async with serving(tmp_path, redis_server.url, socket_queue=64) as control:
        async with asyncio.timeout(180):
            while not (await control.http.get(f"{API}/workers")).json()["workers"]:
                assert worker.process.poll() is None, worker.log.read_text()
                await asyncio.sleep(0.1)
        yield control
