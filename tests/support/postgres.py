"""A private PostgreSQL for a test run, where its programs are installed."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from sqlalchemy.ext.asyncio import create_async_engine

_NOBODY = 65534  # the server refuses to run as root


class Postgres:
    """One cluster in a directory of its own, on a free loopback port, with no durability."""

    def __init__(self) -> None:
        self._user = _NOBODY if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="spindle-postgres-"))
        if self._user:
            os.chown(self._folder, _NOBODY, _NOBODY)
        self._data = self._folder / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]

    @staticmethod
    def missing() -> str | None:
        """Which program is missing, if one is."""
        return next((name for name in ("initdb", "pg_ctl", "postgres") if shutil.which(name) is None), None)

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return self.url_by(self._port)

    def url_by(self, port: int) -> str:
        """The database as it is reached by a port that leads to it."""
        return f"postgresql+asyncpg://spindle@127.0.0.1:{port}/postgres"

    def start(self) -> None:
        """Start it; what an earlier start wrote is there again."""
        if not self._data.exists():
            self._run("initdb", "-D", str(self._data), "-U", "spindle", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
        options = f"-p {self._port} -k {self._folder} -c fsync=off -c listen_addresses=127.0.0.1"
        self._run("pg_ctl", "-D", str(self._data), "-o", options, "-l", str(self._folder / "log"), "-w", "start")

    async def empty(self) -> None:
        engine = create_async_engine(self.url)
        async with engine.begin() as connection:
            await connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            await connection.exec_driver_sql("CREATE SCHEMA public")
        await engine.dispose()

    def stop(self) -> None:
        """End it at once, as a crash does."""
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop")

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd="/", timeout=60, user=self._user)
