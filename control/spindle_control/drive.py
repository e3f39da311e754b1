"""One run, driven: its plan walked as a LangGraph, its ends recorded, its record archived.

    walk(plan) -> decide -> dispatch … commits wake us -> board -> … -> finish (script) -> end_run (database) -> archive

The script fixes the end first, and every copy is idempotent: killed anywhere in between, the next driver finds the
same end and copies it again.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spindle_common.problems import SpindleError, StateLost, Unavailable
from spindle_common.queue import Queue, compact
from spindle_common.remains import Remains, remains_of
from spindle_common.spill import Bytes
from spindle_common.stopping import stop
from spindle_common.values import Outcome
from spindle_control import metrics
from spindle_control.batches import Fenced
from spindle_control.opening import park_run
from spindle_control.planner import Planned
from spindle_control.settings import ControlSettings
from spindle_control.store import ENDED, RunRow, Store
from spindle_control.walking import Identity, Walking, first_failure

log = logging.getLogger(__name__)
_AWAY_SECONDS = 1.0
_EVENTS_AT_MOST = 1_000_000


@dataclass(frozen=True)
class Parts:
    """What driving needs."""

    queue: Queue
    store: Store
    artifacts: Bytes
    settings: ControlSettings


@dataclass
class Ending:
    """How a run ended."""

    status: str
    outputs: dict[str, Any] = field(default_factory=dict)
    problem: dict[str, Any] | None = None

    @property
    def data(self) -> str:
        """Its event's data, as JSON text."""
        return compact({"outputs": self.outputs} if self.problem is None else {"problem": self.problem})


class Drive:
    """One run in the hands of this control, at one epoch."""

    def __init__(self, row: RunRow, planned: Planned, parts: Parts) -> None:
        self.row, self.epoch = row, row.epoch
        self._plan, self._parts = planned.plan, parts
        identity = Identity(row.id, row.epoch, row.traceparent, row.seeds)
        self._walking = Walking(identity, planned.plan.level, row.inputs, parts)
        self._walking.failed_at_top = self._stop_if_wanted
        self._paused = False
        self._woken = time.monotonic()
        self._parking: asyncio.Task[str] | None = None
        self._interrupted: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @property
    def still_seconds(self) -> float:
        """Seconds since anything was heard of the run."""
        return time.monotonic() - self._woken

    # What wakes it -------------------------------------------------------------------------------------------------

    def wake(self, outcomes: Mapping[str, Outcome], news: str | None = None) -> None:
        """Take in commits, or the news that someone else ended the run, paused it, or let it go on."""
        self._walking.frames.put(outcomes)
        self._woken = time.monotonic()
        if news == "resumed":
            self._paused = False
        elif news == "paused" or (self._paused and not news):
            self._paused = True
            self.rest()
        elif news:
            self._interrupt(news)
        elif any(o["status"] == "failed" and _is_at_top(path) for path, o in outcomes.items()):
            self._stop_if_wanted()

    def _stop_if_wanted(self) -> None:
        """A node of the workflow itself failed; what fails inside a body is its flow's to judge."""
        if self._plan.on_failure == "stop":
            self._interrupt("stop")

    def rest(self) -> None:
        """Leave memory and Redis if the run is paused and none of its tasks runs; each of their ends asks again."""
        if self._paused and (self._parking is None or self._parking.done()):
            self._parking = asyncio.ensure_future(self._park(()))

    async def _linger(self) -> None:
        """Leave memory and Redis, too, once nothing is done or waited for but answers, for as long as we linger."""
        doings = self._walking.doings
        while True:
            moves = doings.moves
            await asyncio.sleep(self._parts.settings.linger_seconds)
            quiet = doings.asked and not doings.busy and doings.moves == moves
            if quiet and (self._parking is None or self._parking.done()):
                self._parking = asyncio.ensure_future(self._park(tuple(doings.asked)))
                await asyncio.wait({self._parking})

    async def _park(self, asked: Sequence[str]) -> str:
        parts, run = self._parts, self.row.id
        answer = await self._patiently(lambda: park_run(parts.queue, parts.store, run, self.epoch, asked))
        if answer in ("parked", "stale", "missing"):
            self._interrupt(answer)
        return answer

    async def _patiently(self, work: Callable[[], Awaitable[str]]) -> str:
        """Repeat an idempotent step until Redis and the database answer."""
        while True:
            try:
                return await work()
            except Unavailable as error:
                log.warning("waiting: %s", error, extra={"run": self.row.id})
                await asyncio.sleep(_AWAY_SECONDS)

    def lost(self) -> None:
        """Redis no longer knows the run."""
        self._interrupt("missing")

    def _interrupt(self, why: str) -> None:
        if not self._interrupted.done():
            self._interrupted.set_result(why)

    # Driving -------------------------------------------------------------------------------------------------------

    async def run(self, known: Mapping[str, Outcome]) -> None:
        """Drive the run to its end; `known` are the outcomes that its ledger holds already."""
        self.wake(known)
        walking = asyncio.ensure_future(self._walking.run())
        lingering = asyncio.ensure_future(self._linger())
        try:
            waited: set[asyncio.Future[Any]] = {walking, self._interrupted}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            try:
                await stop([walking, lingering])
            finally:
                await self._walking.close()
        answer = self._answer(walking)
        if self._parking is not None:  # what a dispatch heard meanwhile (parking, missing) is then no news
            parked = await self._parking
            answer = parked if parked in ("parked", "stale") else answer
        await self._leave(answer)

    async def _leave(self, answer: str | None) -> None:
        """End, park or let go of the run, whatever `answer` says of it."""
        if answer in (None, "stop"):
            ending = await self._ending()
            finish = self._parts.queue.finish
            answer = await self._patiently(lambda: finish(self.row.id, self.epoch, ending.status, ending.data))
        else:
            ending = None
        if answer == "parking":
            answer = await self._patiently(
                lambda: park_run(self._parts.queue, self._parts.store, self.row.id, self.epoch)
            )
        if answer in ("stale", "parked"):
            log.info("no longer driven here: %s", answer, extra={"run": self.row.id})
            return
        await self._archive(ending if answer == "ok" else None)

    async def _archive(self, ending: Ending | None) -> None:
        while True:
            try:
                return await archive(self._parts, self.row, self.epoch, ending)
            except Unavailable as error:
                log.warning("cannot end the run yet: %s", error, extra={"run": self.row.id})
                await asyncio.sleep(_AWAY_SECONDS)

    def _answer(self, walking: "asyncio.Future[None]") -> str | None:
        """What ended the walk early, if anything: a script's answer, or `stop`."""
        error = None if walking.cancelled() else walking.exception()
        if self._interrupted.done():
            return self._interrupted.result()
        if error is None:
            return None
        if isinstance(error, Fenced):
            return str(error)
        raise error

    # Ending --------------------------------------------------------------------------------------------------------

    async def _ending(self) -> Ending:
        root = self._walking.root
        failed = first_failure(root)
        if failed is not None:
            return Ending("failed", problem=failed)
        if not root.board.knows(self._plan.node_task):
            return Ending("failed", problem=StateLost().problem())
        try:
            return Ending("completed", outputs=await self._walking.outputs(root))
        except SpindleError as error:
            return Ending("failed", problem=error.problem())


def _is_at_top(path: str) -> bool:
    return "." not in path and "[" not in path


async def archive(parts: Parts, row: RunRow, epoch: int | None, ending: Ending | None) -> None:
    """Copy an ended run from Redis to the database, then let Redis forget it; idempotent.

    Without `ending` the end is read from the run's hash: someone else fixed it, or nothing is left (`state-lost`).
    """
    found = await remains_of(parts.queue.client, row.id, _EVENTS_AT_MOST)
    ending = ending or await _found_ending(parts, row, found)
    if ending is None:
        return
    ms = found.ended_at or int(time.time() * 1000)
    first = await parts.store.end_run(
        row.id,
        epoch,
        ending.status,
        ms,
        outputs=ending.outputs,
        problem=ending.problem,
        nodes=found.ledger or row.nodes or {},
        events=found.events,
    )
    if not first and (await parts.store.run(row.id)).status not in ENDED:
        return  # another driver has it by a higher epoch
    await parts.queue.archive(row.id, parts.settings.archive_seconds)
    if not first:
        return
    if found.status is None:
        await parts.queue.nudge(row.id)
    metrics.runs.labels(ending.status).inc()
    metrics.run_seconds.labels(ending.status).observe(max(0, ms - row.created_at) / 1000)


async def _found_ending(parts: Parts, row: RunRow, found: Remains) -> Ending | None:
    """How a run ended by what Redis has of it; None if it has not ended after all."""
    if found.status is None:
        if (await parts.store.run(row.id)).status == "paused":
            return None  # nothing is lost: it was parked, and word of that came late
        return Ending("failed", problem=StateLost("Redis no longer holds what was in flight").problem())
    if found.status not in ENDED:
        return None  # it was brought back meanwhile
    data = json.loads(found.ending or "{}")
    return Ending(found.status, data.get("outputs", {}), data.get("problem"))
