"""Spindle as real processes on one private Redis: as many controls and workers as a test wants, killed as it likes."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from spindle_control.client import Client
from spindle_control.embedded_redis import free_port
from support.light import environment
from support.redis_server import RedisServer

PATIENCE = 240.0
QUICK = {
    "SPINDLE_TEST_NODES": "1",
    "SPINDLE_LEASE_SECONDS": "3",
    "SPINDLE_BEAT_SECONDS": "0.5",
    "SPINDLE_CONTROL_LEASE_SECONDS": "2",
    "SPINDLE_CONTROL_BEAT_SECONDS": "0.5",
    "SPINDLE_THREADS": "1",
    "SPINDLE_DRAIN_SECONDS": "5",
    "SPINDLE_LOG_FORMAT": "json",
}


class Process:
    """One child; its log goes to a file."""

    def __init__(self, module: str, env: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as sink:
            self._popen = subprocess.Popen([sys.executable, "-m", module], env=env, stdout=sink, stderr=sink)

    def signal(self, number: int) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()

    def stop(self, seconds: float = 90.0) -> int:
        """Ask it to end; returns its exit status."""
        self._popen.terminate()
        return self._popen.wait(seconds)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def alive(self) -> bool:
        return self._popen.poll() is None


class Cluster:
    """Controls and workers that share one Redis, one database and one artifact folder; workers with torch if asked.

    `covered`: whether a run under coverage follows them too. It makes them half as fast again, so promises of real time
    are tried without.
    """

    def __init__(
        self, folder: Path, redis: RedisServer, *, torch: bool = False, covered: bool = True, **settings: str
    ) -> None:
        self.folder, self.redis, self._torch, self._covered = folder, redis, torch, covered
        self._settings = QUICK | settings
        self.processes: list[Process] = []
        self.urls: dict[int, str] = {}

    def _env(self, **more: str) -> dict[str, str]:
        base = {"SPINDLE_DATA_DIR": str(self.folder), "SPINDLE_REDIS_URL": self.redis.url}
        around = environment(torch=self._torch)
        if not self._covered:
            around = {name: value for name, value in around.items() if not name.startswith("COVERAGE_")}
        return around | base | self._settings | more

    def _start(self, module: str, **more: str) -> Process:
        process = Process(module, self._env(**more), self.folder / f"{module}-{len(self.processes)}.log")
        self.processes.append(process)
        return process

    def control(self, **settings: str) -> tuple[Process, str]:
        """Start a control; returns it and its URL once it answers."""
        port = free_port()
        process = self._start("spindle_control", SPINDLE_PORT=str(port), **settings)
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(f"{url}/livez"), process)
        return process, url

    def worker(self, **settings: str) -> Process:
        """Start a worker."""
        return self._start("spindle_worker", **settings)

    def ready(self, url: str, workers: int = 1) -> None:
        """Wait until a control knows so many workers."""
        wait_until(lambda: len(httpx.get(f"{url}/api/v1/workers", timeout=60).json()["workers"]) >= workers)

    def close(self) -> None:
        for process in reversed(self.processes):
            if process.alive:
                process.signal(signal.SIGCONT)
                process.stop()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def wait_until(holds: Any, process: Process | None = None, seconds: float = PATIENCE) -> None:
    """Wait until something holds; fails with the process's log when it died or took too long."""
    deadline = time.monotonic() + seconds
    while not holds():
        log = process.log.read_text() if process else ""
        assert process is None or process.alive, f"it died:\n{log}"
        assert time.monotonic() < deadline, f"it took too long\n{log}"
        time.sleep(0.05)


@contextmanager
def running(
    folder: Path, redis: RedisServer, controls: int = 1, workers: int = 1, **settings: Any
) -> Iterator[tuple[Cluster, list[str]]]:
    """Run so many controls and workers; gives the cluster and the controls' URLs."""
    cluster = Cluster(folder, redis, **settings)
    try:
        for _ in range(workers):
            cluster.worker()
        urls = [cluster.control()[1] for _ in range(controls)]
        for url in urls:
            cluster.ready(url, workers)
        yield cluster, urls
    finally:
        cluster.close()


async def finished(url: str, workflow: dict[str, Any], inputs: dict[str, Any] | None = None) -> dict[str, Any]:
    """Submit a run and return its record at its end."""
    async with Client(url) as client:
        return await client.run_and_wait(workflow, inputs)


def workflow(nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Build a document around nodes."""
    return {"schema": "spindle.workflow/v1", "name": "test", "nodes": nodes, **more}
