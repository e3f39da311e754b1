"""A private Redis-compatible server for a test run: the real embedded one, on a free loopback port."""

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from spindle_control.embedded_redis import EmbeddedRedis, prepare


class RedisServer:
    """Starts, kills and restarts one server on one directory."""

    def __init__(self, directory: Path) -> None:
        self.server: EmbeddedRedis = prepare(directory)
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._process = subprocess.Popen(
            self.server.command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, text=True
        )
        assert self._process.stdin is not None
        self._process.stdin.write(self.server.configuration)
        self._process.stdin.close()
        asyncio.run(self._answers())

    async def _answers(self) -> None:
        async with asyncio.timeout(120):
            while not await self.server.answers():
                await asyncio.sleep(0.02)

    def stop(self, how: int = signal.SIGKILL) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def started(directory: Path) -> Iterator[RedisServer]:
    """Run a server until the block ends."""
    server = RedisServer(directory)
    server.start()
    try:
        yield server
    finally:
        server.stop()
