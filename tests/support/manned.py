"""A control in the test's own loop that has a worker, and ends and parks runs without delay."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from support.control import API, Control, serving
from support.redis_server import RedisServer
from support.worker_process import WorkerProcess

QUICK: dict[str, Any] = {"archive_seconds": 0.2, "linger_seconds": 0.3}


def _import_all() -> None:
    import cel  # noqa: F401
    import langgraph.pregel  # noqa: F401


@contextlib.asynccontextmanager
async def manned(folder: Path, redis: RedisServer, worker: WorkerProcess, **settings: Any) -> AsyncIterator[Control]:
    """Serve until the block ends, once the worker is there."""
    await asyncio.to_thread(_import_all)  # seconds on a busy machine, in the loop that serves
    async with serving(folder, redis.url, **(QUICK | settings)) as control:
        async with asyncio.timeout(180):
            while not (await control.http.get(f"{API}/workers")).json()["workers"]:
                assert worker.process.poll() is None, worker.log.read_text()
                await asyncio.sleep(0.1)
        yield control
