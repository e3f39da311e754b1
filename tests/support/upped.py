"""`spindle up` as a person starts it: a real process, read line by line, stopped and killed for real."""

import contextlib
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

import psutil

from spindle_control.embedded_redis import free_port
from support.light import environment

PATIENCE = 240.0
SPINDLE = [sys.executable, "-c", "from spindle_control.cli import main; main()"]


class Upped:
    """One `spindle up`, as a context killed at the end; what it printed is kept in `lines`."""

    def __init__(self, data_dir: Path, port: int | None = None, **settings: str) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.lines: list[str] = []
        own = {"SPINDLE_DATA_DIR": str(data_dir), "SPINDLE_PORT": str(self.port), "SPINDLE_TEST_NODES": "1"}
        self.process = subprocess.Popen(
            [*SPINDLE, "up"],
            env=environment() | own | settings,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._incoming: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self._incoming.put(line.rstrip("\n"))
        self._incoming.put(None)

    def until(self, pattern: str, seconds: float = PATIENCE) -> str:
        """Return the next line that matches; fails with everything said when it does not come."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._incoming.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"no line like {pattern!r} among:\n" + "\n".join(self.lines)
            self.lines.append(line)
            if re.search(pattern, line):
                return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)

    def ready(self) -> Self:
        self.until("^Ctrl-C stops everything")
        return self

    def part(self, words: str) -> psutil.Process:
        """Return the child whose command line holds these words, once it is there: it may be starting again."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for child in psutil.Process(self.process.pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if words in " ".join(child.cmdline()):
                        return child
            time.sleep(0.05)
        raise AssertionError(f"no child {words!r}")

    def family(self) -> list[psutil.Process]:
        """Everything that it started, however deep."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def wait(self, seconds: float = PATIENCE) -> int:
        status = self.process.wait(seconds)
        self._reader.join(seconds)
        while not self._incoming.empty():
            line = self._incoming.get()
            if line is not None:
                self.lines.append(line)
        return status

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()


def gone(processes: list[psutil.Process], seconds: float = PATIENCE) -> bool:
    """Whether all of them end in time."""
    return not psutil.wait_procs(processes, timeout=seconds)[1]
