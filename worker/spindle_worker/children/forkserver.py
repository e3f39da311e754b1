"""`python -m spindle_worker.children.forkserver FD`: imports what native nodes need, then forks a child on request.

    worker -> {rearing}                         first line
    forkserver -> {"ready": true}
    worker -> {"fork": {queue, model_memory}} + the child's end of its socket (SCM_RIGHTS)
    forkserver -> {"forked": pid} | {"refused": "why"}
    worker -> {"kill": pid}                     with all that it started
    forkserver -> {"ended": pid, "signal": n | null, "status": n | null}

One thread, no CUDA, no parallel torch work: only so may it fork. At the end of the control socket it kills its
children and exits.
"""

import contextlib
import faulthandler
import gc
import importlib
import importlib.util
import json
import logging
import os
import selectors
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from spindle_common.telemetry import configure_logging
from spindle_worker.catalog import node_specs
from spindle_worker.children.dying import be_chosen_first, die_with, outlast_signals
from spindle_worker.children.rearing import Rearing
from spindle_worker.children.serving import serve
from spindle_worker.node import NodeSpec

log = logging.getLogger(__name__)
_LINE_BYTES = 65536


def main() -> None:
    """Serve the worker at the other end of a socket, whose number is the argument."""
    outlast_signals()
    control = socket.socket(fileno=int(sys.argv[1]))
    with control.makefile("rb", buffering=0) as lines:
        rearing = Rearing.model_validate_json(lines.readline())
    die_with(rearing.worker)
    sys.path[:] = rearing.path or sys.path
    configure_logging(rearing.log_level, "json" if rearing.log_format == "json" else "text")
    Forkserver(control, rearing, _prepared(rearing)).run()


def _prepared(rearing: Rearing) -> dict[str, NodeSpec]:
    """Import everything; what stays in memory is shared by all children until they write to it."""
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # whether there is a GPU, without starting CUDA
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it would tell at import that torchvision is not here
    specs = node_specs(rearing.nodes, test_nodes=rearing.test_nodes)
    if importlib.util.find_spec("torch") is not None:
        try:
            _import(rearing.preload)
        except Exception:
            log.exception("not everything can be imported ahead")
    gc.collect()
    gc.freeze()
    return specs


def _import(names: Sequence[str]) -> None:
    for name in names:
        importlib.import_module(name)
    if "diffusers" in sys.modules:
        from spindle_worker.models.device import quiet

        quiet()


class Forkserver:
    """Forks, kills and reaps; waits on one socket and on SIGCHLD."""

    def __init__(self, control: socket.socket, rearing: Rearing, specs: Mapping[str, NodeSpec]) -> None:
        self._control, self._rearing, self._specs = control, rearing, specs
        self._children: set[int] = set()
        self._buffer, self._ends = b"", list[int]()
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)

    def run(self) -> None:
        """Serve until the worker is gone."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        with selectors.DefaultSelector() as selector:
            for source in (self._control, self._woken):
                selector.register(source, selectors.EVENT_READ)
            self._say({"ready": True})
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                self._reap()
                if self._control in ready and not self._listen():
                    break
        self._end()

    def _say(self, what: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._control.sendall(json.dumps(what).encode() + b"\n")

    def _listen(self) -> bool:
        data, ends, _, _ = socket.recv_fds(self._control, _LINE_BYTES, 8)
        self._ends += ends
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._obey(json.loads(line))
        return bool(data)

    def _obey(self, order: Mapping[str, Any]) -> None:
        if "fork" in order:
            self._fork(self._ends.pop(0), order["fork"])
        elif order["kill"] in self._children:
            _kill(order["kill"])

    def _fork(self, end: int, about: Mapping[str, Any]) -> None:
        me = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(end)
            self._say({"refused": str(error)})
            return
        if pid == 0:
            self._live(me, socket.socket(fileno=end), about)
        os.close(end)
        self._children.add(pid)
        self._say({"forked": pid})

    def _live(self, parent: int, sock: socket.socket, about: Mapping[str, Any]) -> None:
        """The child's life; never returns into the forkserver's."""
        status = 1
        try:
            die_with(parent)
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for inherited in (self._control, self._woken, self._waker):
                inherited.close()
            be_chosen_first()
            faulthandler.enable()
            serve(sock, self._rearing, self._specs, about["model_memory"])
            status = 0
        except BaseException:
            log.exception("a child broke")
        finally:
            logging.shutdown()
            os._exit(status)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        for pid in list(self._children):
            if _has_ended(pid):
                _kill(pid)  # what it started: as long as we have not waited for it, its group's number is its own
            found, status = os.waitpid(pid, os.WNOHANG)
            if not found:
                continue
            self._children.discard(pid)
            code = os.waitstatus_to_exitcode(status)
            self._say({"ended": pid, "signal": -code if code < 0 else None, "status": code if code >= 0 else None})

    def _end(self) -> None:
        for pid in self._children:
            _kill(pid)
            os.waitpid(pid, 0)


def _has_ended(pid: int) -> bool:
    """Whether a child has ended, without taking note of it; False where one cannot ask (macOS before Python 3.13)."""
    return hasattr(os, "waitid") and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill(pid: int) -> None:
    """Kill a child and its process group, which it may not have made yet."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
