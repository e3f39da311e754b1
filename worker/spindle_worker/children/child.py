"""The worker's end of a child: calls it, serves what its nodes ask for, notices its death.

call -> reports, questions … -> end        cancelled: stop, and the child is killed if it has not ended in 1.5 s
"""

import asyncio
import json
import logging
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from spindle_common.contracts import Artifact
from spindle_common.problems import NodeFailed, SpindleError
from spindle_common.telemetry import current_trace
from spindle_worker import metrics
from spindle_worker.calling import Returned
from spindle_worker.children import framing
from spindle_worker.children.framing import Frame
from spindle_worker.children.relay import packed, unpacked
from spindle_worker.files import Files

log = logging.getLogger(__name__)
GRACE_SECONDS = 1.5
_LAST_WORDS_SECONDS = 0.5
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Exit(NamedTuple):
    """How a process ended: by a signal, or with a status."""

    signal: int | None
    status: int | None

    @property
    def name(self) -> str:
        """The signal, or `exit`."""
        return signal.Signals(self.signal).name if self.signal else "exit"

    def __str__(self) -> str:
        return f"was killed by {self.name}" if self.signal else f"exited with status {self.status}"


class ChildDied(Exception):
    """A child ended in the middle of a call, or before what it held was used."""

    def __init__(self, exit_: Exit, why: str = "") -> None:
        super().__init__(why or f"the process of its native nodes {exit_}")
        self.exit = exit_


@dataclass(frozen=True)
class Kept:
    """A handle as the worker knows it: where the object is."""

    child: int
    number: int


@dataclass(frozen=True)
class Reach:
    """What a native node reaches in the worker, and what its reports reach."""

    run: str
    node: str
    attempt: int
    files: Files
    progress: Callable[[dict[str, Any]], None]
    preview: Callable[[dict[str, Any]], None]
    provenance: Callable[[], Mapping[str, Any]]
    heard: Callable[[], None]


@dataclass
class _Call:
    number: int
    reach: Reach | None
    end: "asyncio.Future[dict[str, Any]]"


@dataclass(frozen=True)
class Keeper:
    """What a child needs of whoever raised it."""

    kill: Callable[[int], None]
    room: Callable[["Child", int], bool]


class Child:
    """A process that runs native nodes, one at a time."""

    def __init__(self, pid: int, queue: str, streams: Streams, keeper: Keeper) -> None:
        self.pid, self.queue = pid, queue
        self.exit: Exit | None = None
        self._keeper = keeper
        self._calls = 0
        self._current: _Call | None = None
        self._quiet, self._dead = asyncio.Event(), asyncio.Event()
        self._quiet.set()
        self._verdict: SpindleError | None = None
        self._answers: set[asyncio.Task[None]] = set()
        reader, self._writer = streams
        self._reading = asyncio.ensure_future(self._read(reader))

    @property
    def alive(self) -> bool:
        """Whether it may be called."""
        return self.exit is None and not self._reading.done() and self._verdict is None

    # Calling -------------------------------------------------------------------------------------------------------

    async def call(self, node_type: str, inputs: Mapping[str, Any], reach: Reach) -> Returned:
        """Run a node; every failure of its own is a SpindleError. Raises ChildDied."""
        order = self._order(node_type, inputs, reach)
        call = self._current = _Call(self._calls, reach, asyncio.get_running_loop().create_future())
        self._quiet.clear()
        self._write(order)
        try:
            end = await call.end
        except asyncio.CancelledError:
            self._stop(call)
            raise
        if "error" in end:
            raise unpacked(end["error"])
        if "cancelled" in end:
            raise asyncio.CancelledError
        return Returned(end["values"], {port: Kept(self.pid, number) for port, number in end["handles"].items()})

    def _order(self, node_type: str, inputs: Mapping[str, Any], reach: Reach) -> bytes:
        handles = {port: value for port, value in inputs.items() if isinstance(value, Kept)}
        if not self.alive or any(kept.child != self.pid for kept in handles.values()):
            raise ChildDied(self.exit or Exit(signal.SIGKILL, None))
        self._calls += 1
        header = {
            "do": "call",
            "call": self._calls,
            "type": node_type,
            "inputs": {port: value for port, value in inputs.items() if port not in handles},
            "handles": {port: kept.number for port, kept in handles.items()},
            "run": reach.run,
            "node": reach.node,
            "attempt": reach.attempt,
            "trace": current_trace.get(),
        }
        try:
            return framing.encoded(header)
        except ValueError as error:
            raise NodeFailed(f"its inputs cannot travel: {error}") from None

    def _stop(self, call: _Call) -> None:
        call.reach = None
        self._say({"do": "stop", "call": call.number})
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self._overdue, call)

    def _overdue(self, call: _Call) -> None:
        if self._current is call:
            log.warning("child %d does not stop: killed", self.pid)
            self.kill()

    async def settled(self) -> None:
        """Wait until no node runs in it, at most as long as a stopped one may take."""
        await self._quiet.wait()

    @property
    def quiet(self) -> bool:
        """Whether no node runs in it."""
        return self._quiet.is_set()

    def forget(self) -> None:
        """Drop the handles of the attempt that is over."""
        self._say({"do": "forget"})

    # Hearing -------------------------------------------------------------------------------------------------------

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while frame := await framing.read(reader):
                self._hear(frame)
        except (framing.BadFrame, OSError, KeyError, ValueError) as error:
            log.warning("child %d: %s: %s", self.pid, type(error).__name__, error)
        self.kill()

    def _hear(self, frame: Frame) -> None:
        header, call = frame.header, self._current
        if "end" in header:
            if call is not None and header["end"] == call.number:
                self._current = None
                self._quiet.set()
                if not call.end.done():
                    call.end.set_result(header)
        elif "ask" in header:
            answering = asyncio.create_task(self._answer(header, call.reach if call else None))
            self._answers.add(answering)
            answering.add_done_callback(self._answers.discard)
        elif header["tell"] == "model":
            _count_model(header)
        elif call is not None and call.reach is not None:
            call.reach.heard()
            _pass_on(header, frame.body, call)

    async def _answer(self, question: dict[str, Any], reach: Reach | None) -> None:
        to = {"do": "answer", "to": question["id"]}
        try:
            answer, body = await self._found(question, reach)
        except SpindleError as error:
            answer, body = {"error": packed(error)}, b""
        self._say(to | answer, body)

    async def _found(self, question: dict[str, Any], reach: Reach | None) -> tuple[dict[str, Any], bytes]:
        if question["ask"] == "room":
            return {"granted": self._keeper.room(self, question["bytes"])}, b""
        if reach is None:
            raise NodeFailed("the attempt is over")
        reach.heard()
        if question["ask"] == "read":
            artifact = Artifact.model_validate(question["artifact"])
            return {}, await asyncio.to_thread(reach.files.read, artifact)
        return {}, json.dumps(dict(await asyncio.to_thread(reach.provenance))).encode()

    def _say(self, header: dict[str, Any], body: bytes = b"") -> None:
        self._write(framing.encoded(header, body), body)

    def _write(self, head: bytes, body: bytes = b"") -> None:
        if self.exit is None and not self._writer.is_closing():
            self._writer.write(head)
            if body:
                self._writer.write(body)

    # Ending --------------------------------------------------------------------------------------------------------

    def condemn(self, verdict: SpindleError) -> None:
        """Kill it for a reason; the node that runs in it fails by that instead of by a crash."""
        self._verdict = self._verdict or verdict
        self.kill()

    def kill(self) -> None:
        """Kill it, with all that its nodes started."""
        if self.exit is None:
            self._keeper.kill(self.pid)

    def hang_up(self) -> None:
        """Let it end by itself, as a child without calls does when its socket closes."""
        self._writer.close()

    async def bury(self, exit_: Exit) -> None:
        """End the call that ran in it, once what it said before has been heard; `exit` is set as soon as it is dead."""
        await asyncio.wait({self._reading}, timeout=_LAST_WORDS_SECONDS)
        self._reading.cancel()
        self._writer.close()
        call, self._current = self._current, None
        if call is not None and not call.end.done():
            call.end.set_exception(self._verdict or ChildDied(exit_))
        self._quiet.set()
        self._dead.set()

    async def gone(self) -> None:
        """Wait until it is dead."""
        await self._dead.wait()


def _pass_on(header: dict[str, Any], body: bytes, call: _Call) -> None:
    reach = call.reach
    if reach is None:
        return
    if header["tell"] == "progress":
        reach.progress(header["tick"])
    elif header["tell"] == "write":
        reach.files.keep(Artifact.model_validate(header["artifact"]), body)
    elif header["tell"] == "preview" and header["call"] == call.number:
        reach.preview(header["preview"])


def _count_model(event: Mapping[str, Any]) -> None:
    if event["kind"] == "loaded":
        metrics.model_loads.labels(event["model"]).inc()
        metrics.model_load_seconds.observe(event["seconds"])
