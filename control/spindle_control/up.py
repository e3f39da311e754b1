"""`spindle up`: everything on this machine under one supervisor.

Order: lock of the data directory → embedded Redis (unless SPINDLE_REDIS_URL names one) → control and one worker, told
by environment variables → ready, once control answers and a worker has announced itself. It stops the other way round:
worker, control, Redis. `DATA_DIR/up.lock` is held while we run (flock) and says who we are: pid, URL, Redis URL; only
its owner may read it.
"""

import asyncio
import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from spindle_control import embedded_redis
from spindle_control.client import Client, SpindleProblem
from spindle_control.settings import ControlSettings
from spindle_control.supervisor import Child, GaveUp, Program

REDIS_START_SECONDS = 60.0
POLL_SECONDS = 0.2
SLOW_START_SECONDS = 60.0
DRAIN_SECONDS = 5
EXAMPLE = 'examples/poster.json -i subject="a large green star on a black background" -o star.png'
_COLOURS = {"redis": "35", "control": "36", "worker": "33", "up": "32"}


class CannotStart(Exception):
    """Something must be mended by a person first."""


class AlreadyUp(CannotStart):
    """Another supervisor holds this data directory."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where we run: absolute data directory, the address of the API, the URL of Redis."""

    data_dir: Path
    host: str
    port: int
    redis_url: str

    @property
    def url(self) -> str:
        """URL of the API for programs on this machine."""
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{reachable}]:{self.port}" if ":" in reachable else f"http://{reachable}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that tell children about it."""
        return {
            "SPINDLE_DATA_DIR": str(self.data_dir),
            "SPINDLE_HOST": self.host,
            "SPINDLE_PORT": str(self.port),
            "SPINDLE_REDIS_URL": self.redis_url,
            "PYTHONUNBUFFERED": "1",
        }


def up(settings: ControlSettings) -> int:
    """Run everything until a signal comes; exit status 0, or 1 if a part cannot be kept alive. Raises CannotStart."""
    data_dir = settings.data_dir.absolute()
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _lock(data_dir) as lock:
        _refuse_what_cannot_work(settings)
        try:
            redis = None if settings.redis_url else embedded_redis.prepare(data_dir)
        except embedded_redis.NoServer as missing:
            raise CannotStart(str(missing)) from None
        place = Place(data_dir, settings.host, settings.port, redis.url if redis else settings.redis)
        _write_who_we_are(lock, place)
        return asyncio.run(_Everything(place, redis).run())


def running(data_dir: Path) -> dict[str, object] | None:
    """What the supervisor of this data directory says about itself, if one runs: pid, url, redis_url."""
    try:
        with (data_dir / "up.lock").open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found = json.loads(lock.read() or "{}")
                return dict(found) if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return None
    return None


@contextlib.contextmanager
def _lock(data_dir: Path) -> Iterator[int]:
    """Hold the data directory; yields the lock's file descriptor."""
    descriptor = os.open(data_dir / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = running(data_dir) or {}
            raise AlreadyUp(
                f"Spindle is already up on {data_dir} (pid {who.get('pid', '?')}, {who.get('url', 'starting')}).\n"
                "Use that one, stop it with Ctrl-C, or take another directory and port: SPINDLE_DATA_DIR, SPINDLE_PORT."
            ) from None
        yield descriptor
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _write_who_we_are(lock: int, place: Place) -> None:
    who = {"pid": os.getpid(), "url": place.url, "redis_url": place.redis_url}
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps(who).encode(), 0)


def _refuse_what_cannot_work(settings: ControlSettings) -> None:
    if find_spec("spindle_worker") is None:
        raise CannotStart("spindle-worker is not installed here; `spindle serve` runs the control plane alone.")
    try:
        free = embedded_redis.port_is_free(settings.host, settings.port)
    except OSError as error:
        raise CannotStart(f"Cannot listen on {settings.host}: {error}.") from None
    if not free:
        raise CannotStart(
            f"Port {settings.port} on {settings.host} is taken by another program. "
            f"Choose another: SPINDLE_PORT={settings.port + 10}."
        )


class _Everything:
    """The children of one `spindle up`, from start to stop."""

    def __init__(self, place: Place, redis: embedded_redis.EmbeddedRedis | None) -> None:
        self._place = place
        self._redis = redis
        self._stop = asyncio.Event()
        self._signals = 0
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._running: list[tuple[Child, asyncio.Task[None]]] = []

    async def run(self) -> int:
        """Start, wait for a signal or for a part that cannot be kept alive, stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        telling: asyncio.Task[None] | None = None
        try:
            await self._start()
            telling = asyncio.create_task(self._tell_when_ready())
            await self._until_stop_or_failure()
        except GaveUp as reason:
            self._say("up", f"stopping everything: {reason}")
            return 1
        finally:
            if telling:
                telling.cancel()
            await self._stop_all()
        self._say("up", "stopped; nothing is left running")
        return 0

    async def _start(self) -> None:
        if self._redis:
            self._keep(
                Program(
                    "redis",
                    self._redis.command,
                    standard_input=self._redis.configuration,
                    orphan_signal=signal.SIGTERM,  # it syncs its file and goes
                    hushed=embedded_redis.HUSHED,
                )
            )
            await self._until_redis_answers(self._redis)
        if self._stop.is_set():
            return
        place = self._place.environment
        self._keep(Program("control", [sys.executable, "-m", "spindle_control"], place))
        self._keep(Program("worker", [sys.executable, "-m", "spindle_worker"], _brief_drain() | place))

    def _keep(self, program: Program) -> None:
        child = Child(program, self._say)
        self._running.append((child, asyncio.create_task(child.keep(), name=program.name)))

    async def _until_redis_answers(self, redis: embedded_redis.EmbeddedRedis) -> None:
        try:
            async with asyncio.timeout(REDIS_START_SECONDS):
                while not self._stop.is_set() and not await redis.answers():
                    self._raise_failures()
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise GaveUp(f"redis did not answer within {REDIS_START_SECONDS:g} s.") from None

    async def _until_stop_or_failure(self) -> None:
        stop = asyncio.create_task(self._stop.wait())
        keepers = [task for _, task in self._running]
        await asyncio.wait({stop, *keepers}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        self._raise_failures()

    def _raise_failures(self) -> None:
        for _, task in self._running:
            if task.done() and (failure := task.exception()):
                raise failure

    async def _stop_all(self) -> None:
        for child, task in reversed(self._running):
            await child.stop()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # already told

    def _on_signal(self) -> None:
        self._signals += 1
        self._stop.set()
        if self._signals == 1:
            self._say("up", "stopping (once more to stop at once)")
        else:
            for child, _ in self._running:
                child.kill()

    async def _tell_when_ready(self) -> None:
        loop = asyncio.get_running_loop()
        complain_at = loop.time() + SLOW_START_SECONDS
        async with Client(self._place.url, api_key=os.environ.get("SPINDLE_API_KEY"), patience=0) as client:
            while not await _is_ready(client):
                if loop.time() > complain_at:
                    self._say("up", "still not ready; what the parts say is above")
                    complain_at += SLOW_START_SECONDS
                await asyncio.sleep(POLL_SECONDS)
        print(_welcome(self._place), flush=True)  # noqa: T201

    def _say(self, name: str, line: str) -> None:
        prefix = f"{name:<7} │ "
        if self._colour:
            prefix = f"\x1b[{_COLOURS.get(name, '37')}m{prefix}\x1b[0m"
        try:
            print(prefix + line, flush=True)  # noqa: T201
        except OSError:  # nobody listens any more: the terminal or the pipe is gone
            self._stop.set()


def _brief_drain() -> dict[str, str]:
    """Whoever presses Ctrl-C does not want to wait as long as a rolling update may; an open task runs again later."""
    return {} if "SPINDLE_DRAIN_SECONDS" in os.environ else {"SPINDLE_DRAIN_SECONDS": str(DRAIN_SECONDS)}


async def _is_ready(client: Client) -> bool:
    try:
        return await client.ready() and bool(await client.workers())
    except SpindleProblem as problem:
        return problem.status in (401, 403)  # keys exist and we have none: control answers, more we cannot see


def _welcome(place: Place) -> str:
    spindle = _how_to_call_us()
    document = "$(cat examples/poster.json)"
    return f"""
Spindle is ready.

  API        {place.url}/api/v1
  Reference  {place.url}/openapi.json
  Data       {place.data_dir}

Make a picture (in another terminal):

  {spindle} run {EXAMPLE}

or with curl:

  curl -s {place.url}/api/v1/runs -H 'Content-Type: application/json' -d "{{\\"workflow\\": {document}}}"

Ctrl-C stops everything.
"""


def _how_to_call_us() -> str:
    """How a person in this folder calls the command line."""
    ours = Path(sys.executable).with_name("spindle")
    on_path = shutil.which("spindle")
    if not ours.exists() or (on_path and Path(on_path) == ours and "VIRTUAL_ENV" in os.environ):
        return "spindle"
    here = Path.cwd()
    return shlex.quote(str(ours.relative_to(here) if ours.is_relative_to(here) else ours))
