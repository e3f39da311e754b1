"""The system under test: controls and workers as real processes, each plane with a proxy of its own before Redis.

    controls --> proxies["control"] --\
                                       Redis (embedded, AOF everysec)
    workers  --> proxies["worker"]  --/

    both     --> proxies["store"]   --> S3, where there is one; else a folder
    controls --> proxies["database"] --> PostgreSQL, where it was asked for; else SQLite

Processes are killed and replaced; whoever talks to a control asks `urls` each time.
"""

import asyncio
import contextlib
import os
import secrets
import signal
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import redis as sync_redis

from spindle_common.connection import connect
from support.cluster import QUICK, Cluster, Process, wait_until
from support.postgres import Postgres
from support.proxy import Proxy
from support.radosgw import Missing, S3Server, packages, start
from support.redis_server import RedisServer

_TESTS = Path(__file__).parent.parent
SETTINGS = {
    "SPINDLE_ARCHIVE_SECONDS": "2",
    "SPINDLE_CPU_SLOTS": "1",
    "SPINDLE_ASYNC_SLOTS": "16",
    "SPINDLE_CRASH_BUDGET": "50",
    "SPINDLE_MAX_DRIVEN_RUNS": "48",
    "SPINDLE_MAX_QUEUED_RUNS": "20000",
    "SPINDLE_MAX_TENANT_RUNS": "20000",
    "SPINDLE_NODES": str(_TESTS / "chaos" / "nodes.py"),
}
LEASE = float(QUICK["SPINDLE_LEASE_SECONDS"])
CONTROL_LEASE = float(QUICK["SPINDLE_CONTROL_LEASE_SECONDS"])


@dataclass
class Control:
    """A control process and where it answers."""

    process: Process
    url: str


class Arena:
    """Everything that may be broken."""

    def __init__(
        self,
        folder: Path,
        *,
        store: S3Server | None = None,
        postgres: Postgres | None = None,
        redis_folder: Path | None = None,
        **settings: str,
    ) -> None:
        self.folder, self.store, self.postgres = folder, store, postgres
        self.redis = RedisServer(redis_folder or folder)
        self.redis.start()
        self.proxies = {name: Proxy("127.0.0.1", self.redis.server.port) for name in ("control", "worker")}
        if store is not None:
            host, _, port = store.endpoint.partition(":")
            self.proxies["store"] = Proxy(host, int(port))
            through = replace(store, endpoint=f"127.0.0.1:{self.proxies['store'].port}")
            settings["SPINDLE_S3_URL"] = through.url(f"chaos-{secrets.token_hex(4)}")
        if postgres is not None:
            self.proxies["database"] = Proxy("127.0.0.1", postgres.port)
            settings["SPINDLE_DATABASE_URL"] = postgres.url_by(self.proxies["database"].port)
        self.executions = folder / "executions.jsonl"
        self.executions.touch()
        chosen: dict[str, Any] = SETTINGS | {"CHAOS_LOG": str(self.executions)} | settings
        self.cluster = Cluster(folder, self.redis, covered=False, **chosen)
        self.controls: list[Control] = []
        self.workers: list[Process] = []

    @property
    def lacks(self) -> frozenset[str]:
        """What is not here and so cannot be broken, as faults call it."""
        parts = {"store": self.store, "postgres": self.postgres}
        return frozenset(name for name, part in parts.items() if part is None)

    @property
    def urls(self) -> list[str]:
        """Where controls answer, or should."""
        return [control.url for control in self.controls]

    def redis_url(self, plane: str) -> str:
        """Redis, as one plane reaches it."""
        parts = urlsplit(self.redis.url)
        return parts._replace(netloc=f":{parts.password}@127.0.0.1:{self.proxies[plane].port}").geturl()

    def client(self) -> Any:
        """A client that no fault of the network touches."""
        return connect(self.redis.url)

    # Processes -----------------------------------------------------------------------------------------------------

    def add_control(self, **settings: str) -> Control:
        """Start a control and wait until it answers."""
        process, url = self.cluster.control(**({"SPINDLE_REDIS_URL": self.redis_url("control")} | settings))
        control = Control(process, url)
        self.controls.append(control)
        return control

    def add_worker(self, **settings: str) -> Process:
        """Start a worker."""
        process = self.cluster.worker(**({"SPINDLE_REDIS_URL": self.redis_url("worker")} | settings))
        self.workers.append(process)
        return process

    def kill_control(self, control: Control) -> None:
        """End a control at once, and forget it."""
        self.controls.remove(control)
        control.process.kill()

    def kill_worker(self, worker: Process) -> None:
        """End a worker at once, and forget it."""
        self.workers.remove(worker)
        worker.kill()

    def fill(self, controls: int, workers: int) -> None:
        """Start what is missing, beside each other, and wait until every control knows every worker."""
        for _ in range(workers - len(self.workers)):
            self.add_worker()
        for _ in range(controls - len(self.controls)):
            self.add_control()
        self.settle_workers()

    def settle_workers(self) -> None:
        """Wait until exactly the live workers are registered, and every control shows them."""
        with sync_redis.Redis.from_url(self.redis.url) as client:
            wait_until(lambda: client.zcard("spindle:workers") == len(self.workers))
        for url in self.urls:
            self.cluster.ready(url, len(self.workers))

    async def worker_of(self, name: str) -> Process:
        """The process of a worker by its name."""
        (found,) = [worker for worker in self.workers if f"worker {name}:" in worker.log.read_text()]
        return found

    # Redis ---------------------------------------------------------------------------------------------------------

    def pause_redis(self) -> None:
        """Stop Redis where it stands."""
        os.kill(self.redis.pid, signal.SIGSTOP)

    def resume_redis(self) -> None:
        """Let it go on."""
        os.kill(self.redis.pid, signal.SIGCONT)

    async def restart_redis(self, away: float = 0.0) -> None:
        """kill -9, wait, start again on the same append-only file."""
        await asyncio.to_thread(self.redis.stop)
        await asyncio.sleep(away)
        await asyncio.to_thread(self.redis.start)

    # Ending --------------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Mend every connection, wake every process."""
        for proxy in self.proxies.values():
            proxy.heal()
        with contextlib.suppress(ProcessLookupError):
            self.resume_redis()
        for process in [*self.workers, *(control.process for control in self.controls)]:
            if process.alive:
                process.signal(signal.SIGCONT)

    def cancel_all(self) -> None:
        """Cancel what a failed test left open, so that the next one finds free slots."""
        with httpx.Client(base_url=self.urls[0], timeout=30) as http:
            for status in ("queued", "running"):
                while found := http.get("/api/v1/runs", params={"status": status, "limit": 500}).json().get("runs"):
                    for run in found:
                        http.post(f"/api/v1/runs/{run['id']}:cancel")

    def close(self) -> None:
        """End everything."""
        self.heal()
        self.cluster.close()
        for proxy in self.proxies.values():
            proxy.close()
        self.redis.stop()


@contextlib.contextmanager
def arena(folder: Path, controls: int = 1, workers: int = 1, **settings: Any) -> Iterator[Arena]:
    """Run an arena of its own, with so many controls and workers."""
    opened = Arena(folder, **settings)
    try:
        opened.fill(controls, workers)
        yield opened
    finally:
        opened.close()


@contextlib.contextmanager
def opened(folder: Path, *, with_postgres: bool = False) -> Iterator[Arena]:
    """An arena with a real S3 server of its own, or with a folder where that cannot be had; nothing runs in it yet."""
    with contextlib.ExitStack() as stack:
        store, postgres = None, None
        if with_postgres:
            postgres = Postgres()
            stack.callback(postgres.close)
            postgres.start()
            stack.callback(postgres.stop)
        try:
            running = start(packages())
        except Missing as missing:
            print(f"artifacts in a folder, S3 is left out: {missing}")
        else:
            stack.callback(running.close)
            store = running.server
        made = Arena(folder, store=store, postgres=postgres)
        stack.callback(made.close)
        yield made
