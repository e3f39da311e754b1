"""The worker's end of its forkserver (see `forkserver`): starts it, asks for children, hears of their deaths."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from spindle_worker.children.child import Child, ChildDied, Exit, Streams
from spindle_worker.children.rearing import Rearing

log = logging.getLogger(__name__)
_LINE_BYTES = 65536
_BUFFER_BYTES = 2**20
_END_SECONDS = 5.0


class _Birth(NamedTuple):
    forked: "asyncio.Future[Child]"
    born: Callable[[int], Child]


class Forkserver:
    """One forkserver process; `ended(pid, exit)` is called for each child that dies, with it or before."""

    def __init__(self, rearing: Rearing, ended: Callable[[int, Exit], None]) -> None:
        self._rearing, self._ended = rearing, ended
        self._process: subprocess.Popen[bytes] | None = None
        self._forks: deque[_Birth] = deque()
        self._pids: set[int] = set()
        self._buffer = b""
        self.ready = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Its process id while it lives."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it, unless it lives; on a thread that lasts, since it dies with the thread that started it."""
        if self._process is not None:
            return
        self._control, theirs = socket.socketpair()
        self._buffer = b""
        command = [sys.executable, "-m", "spindle_worker.children.forkserver", str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self._control.sendall(self._rearing.model_dump_json().encode() + b"\n")
        self._control.setblocking(False)
        asyncio.get_running_loop().add_reader(self._control, self._listen)

    async def fork(self, about: Mapping[str, Any], born: Callable[[int, Streams], Child]) -> Child:
        """Ask for a child, which `born` makes as soon as there is a process. Raises ChildDied."""
        self.start()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        streams = await asyncio.open_connection(sock=ours, limit=_BUFFER_BYTES)
        forked: asyncio.Future[Child] = asyncio.get_running_loop().create_future()
        self._forks.append(_Birth(forked, lambda pid: born(pid, streams)))
        try:
            socket.send_fds(self._control, [json.dumps({"fork": about}).encode() + b"\n"], [theirs.fileno()])
            return await forked
        except BaseException as error:
            streams[1].close()  # a child that was forked for nobody ends by this
            if isinstance(error, OSError):
                raise _no_child(str(error)) from None
            raise
        finally:
            theirs.close()

    def kill(self, pid: int) -> None:
        """Have a child killed; it knows whether the number is still that child's."""
        with contextlib.suppress(OSError):
            self._control.sendall(json.dumps({"kill": pid}).encode() + b"\n")

    def _listen(self) -> None:
        try:
            data = self._control.recv(_LINE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._hear(json.loads(line))
        if not data:
            self._lost()

    def _hear(self, said: dict[str, int | str | None]) -> None:
        if "ready" in said:
            self.ready.set()
        elif isinstance(pid := said.get("ended"), int):
            self._pids.discard(pid)
            self._ended(pid, Exit(_number(said["signal"]), _number(said["status"])))
        elif isinstance(pid := said.get("forked"), int):
            self._pids.add(pid)
            birth = self._forks.popleft()
            child = birth.born(pid)
            if not birth.forked.done():
                birth.forked.set_result(child)
        else:
            self._refuse(str(said["refused"]))

    def _refuse(self, why: str) -> None:
        birth = self._forks.popleft()
        if not birth.forked.done():
            birth.forked.set_exception(_no_child(why))

    def _lost(self) -> None:
        """It has ended, and with it all its children; the next fork starts another."""
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        if self._process is not None:
            status = self._process.wait()
            self._process = None
            log.warning("the forkserver ended with status %d", status)
        while self._forks:
            self._refuse("the forkserver ended")
        for pid in list(self._pids):
            self._pids.discard(pid)
            self._ended(pid, Exit(signal.SIGKILL, None))

    async def close(self) -> None:
        """End it and all its children."""
        process = self._process
        if process is None:
            return
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()
        try:
            await asyncio.to_thread(process.wait, _END_SECONDS)
        except subprocess.TimeoutExpired:  # still importing, for example: nothing of ours would be lost
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            await asyncio.to_thread(process.wait)
        self._process = None


def _no_child(why: str) -> ChildDied:
    return ChildDied(Exit(signal.SIGKILL, None), f"no child can be started: {why}")


def _number(value: int | str | None) -> int | None:
    return value if isinstance(value, int) else None
