"""Keeping child processes alive: start, prefix what they say, restart what dies, stop in order.

A child is described by `Program`; `Child` runs it until it is told to stop. What dies is started again after a
growing pause. One that dies `DEATHS` times in a row, each time within `WINDOW` seconds of its start, or that refuses
its settings (exit status 2), ends everything by raising GaveUp. Children have process groups of their own, so that
Ctrl-C reaches the supervisor alone and it decides the order; on Linux they also die with it (PR_SET_PDEATHSIG),
however it ends.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

DEATHS, WINDOW = 5, 30.0
REFUSED = 2
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
LONGEST_LINE = 1 << 20
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

Say = Callable[[str, str], None]


class GaveUp(Exception):
    """A child cannot be kept alive."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: its name for people, command, environment, standard input, how it stops, lines to leave out."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    standard_input: str = ""
    grace: float = 8.0
    orphan_signal: signal.Signals = signal.SIGKILL
    hushed: tuple[str, ...] = ()


class Child:
    """A program that is kept running; `keep` returns after `stop`, or raises GaveUp."""

    def __init__(self, program: Program, say: Say) -> None:
        self.program = program
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._early_deaths = 0

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def keep(self) -> None:
        """Run the program again and again until `stop` is called; raises GaveUp."""
        while not self._stopping.is_set():
            started = time.monotonic()
            status = await self._run_once()
            if self._stopping.is_set():
                return
            self._early_deaths = self._early_deaths + 1 if time.monotonic() - started < WINDOW else 1
            self._judge(status)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._pause())

    async def stop(self) -> None:
        """Ask it to end, and after its grace kill it with everything it started."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        _signal_group(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self.program.grace)
        except TimeoutError:
            self._say(self.program.name, f"did not stop within {self.program.grace:g} s; killed")
        _signal_group(process.pid, signal.SIGKILL)
        await process.wait()

    def kill(self) -> None:
        """End it at once, with everything it started."""
        self._stopping.set()
        if self.pid:
            _signal_group(self.pid, signal.SIGKILL)

    async def _run_once(self) -> int:
        # A pipe of our own: waiting for the process must not wait for what it left behind with its standard output.
        read_end, write_end = os.pipe()
        try:
            process = await self._start(write_end)
        finally:
            os.close(write_end)
        self._process = process
        repeating = asyncio.create_task(self._repeat_lines(read_end))
        if self._stopping.is_set():  # stop() came while the process was being made
            _signal_group(process.pid, signal.SIGTERM)
        await _feed(process, self.program.standard_input)
        status = await process.wait()
        _signal_group(process.pid, signal.SIGKILL)  # whatever it left behind
        await asyncio.wait({repeating}, timeout=1)
        repeating.cancel()
        return status

    async def _start(self, output: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self.program.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **self.program.environment},
            process_group=0,
            preexec_fn=_die_with_parent(self.program.orphan_signal),
        )

    async def _repeat_lines(self, read_end: int) -> None:
        reader = asyncio.StreamReader(limit=LONGEST_LINE)
        pipe = os.fdopen(read_end, "rb")
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while line := await _line(reader):
                text = line.decode(errors="replace").rstrip()
                if not any(words in text for words in self.program.hushed):
                    self._say(self.program.name, text)
        finally:
            transport.close()

    def _judge(self, status: int) -> None:
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        name = self.program.name
        if status == REFUSED:
            raise GaveUp(f"{name} refused to start ({how}); its message is above.")
        if self._early_deaths == DEATHS:
            raise GaveUp(f"{name} died {DEATHS} times in a row (at last: {how}); its lines are above.")
        self._say(name, f"ended ({how}); starting it again")

    def _pause(self) -> float:
        return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (self._early_deaths - 1))


async def _feed(process: asyncio.subprocess.Process, text: str) -> None:
    if process.stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(text.encode())
        await process.stdin.drain()
    process.stdin.close()


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ValueError:  # over the limit; readline has dropped it
        return b"(a line too long to show)\n"


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Return what the child calls between fork and exec, so that the kernel ends it when we end."""
    if _LIBC is None:
        return None
    parent, prctl = os.getpid(), _LIBC.prctl

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # we died in between
            os._exit(1)

    return ask_kernel
