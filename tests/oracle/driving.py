"""A drawn workflow, driven for real: `Drive` on a real Redis, its drivers dropped at random steps, workers simulated.

    run = Rig(server, store, artifacts)      what runs share
    await rig.drive(case, rng)               opens, drives, crashes, adopts, to the end -> Seen

A dropped driver does nothing more: the step during which it dies never returns, and the next one finds what Redis and
the database hold. The workers speak the real protocol and commit in any order that dependencies allow.
"""

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oracle.drawing import Case
from oracle.nodes import PickyError, answer_to, compute, oracle_catalog
from spindle_common.digests import digest
from spindle_common.events import START, read_events
from spindle_common.problems import BadInput, Crashed
from spindle_common.queue import DriveReader, NodeEnd, Queue, Right, Taken, compact, outcome_text
from spindle_common.spill import Bytes
from spindle_common.stopping import stop
from spindle_common.values import ENDED, Outcome, Scope, Skip, decide
from spindle_control.compiler import bind_inputs, check, plan
from spindle_control.drive import Drive, Parts, archive
from spindle_control.opening import open_run, planned_of
from spindle_control.planner import Planned
from spindle_control.settings import ControlSettings
from spindle_control.store import RunRow, Store
from support.rows import a_run

Json = dict[str, Any]
_ALL_EVENTS = 100_000
_SPENT = compact(Crashed().problem())
_FAILED = BadInput("three divides it").problem()


class FrailQueue(Queue):
    """A driver's steps; at one of them the driver dies, before it is done or before its reply arrives."""

    def __init__(self, client: Any, dies_at: int, *, replyless: bool) -> None:
        super().__init__(client)
        self._left, self._replyless = dies_at, replyless
        self.died, self._never = asyncio.Event(), asyncio.Event()

    async def _step(self, *args: str | float) -> Any:
        self._left -= 1
        if self._left == 0 and self._replyless:
            await super()._step(*args)
        if self._left <= 0:
            self.died.set()
            await self._never.wait()
        return await super()._step(*args)


@dataclass
class _Held:
    """A task in a worker's hands."""

    taken: Taken
    right: Right
    nodes: Json
    known: dict[str, Outcome]
    inputs: Json
    prefix: str

    @property
    def ready(self) -> list[str]:
        """Nodes whose needs have ended."""
        left = [id_ for id_ in self.nodes if id_ not in self.known]
        return [id_ for id_ in left if not set(self.nodes[id_].get("needs", ())) & set(left)]


@dataclass
class Seen:
    """What came of a run."""

    row: RunRow
    events: list[Json]
    twice: list[str]
    drivers: int
    frames: set[str]


class Workers:
    """They take everything at once and end nodes one by one; `held` is the path of a node that must wait."""

    def __init__(self, queue: Queue, run: str, rng: random.Random, held: str | None) -> None:
        self._queue, self._run, self._rng, self.held = queue, run, rng, held
        self._tasks: list[_Held] = []
        self._nonces = 0
        self._ended: Counter[tuple[str, str]] = Counter()
        self.twice: list[str] = []
        self.events: list[Json] = []
        self._asked: list[str] = []

    async def work(self) -> None:
        """Work until cancelled."""
        await self._queue.register("w", 3600.0, "{}", dict.fromkeys(("cpu", "gpu", "async"), 200))
        while True:
            await self._take()
            await self._look()
            if not await self._turn():
                await asyncio.sleep(0.002)

    async def _look(self) -> None:
        after = self.events[-1]["id"] if self.events else START
        new = await read_events(self._queue.client, self._run, after, _ALL_EVENTS)
        self.events += new
        self._asked += [event["node"] for event in new if event["type"] == "node.waiting"]
        if self._asked and self._rng.random() < 0.7:
            path = self._asked.pop(self._rng.randrange(len(self._asked)))
            if path == self.held:
                self._asked.append(path)
                return
            outputs = {"answer": answer_to(path), "answered": True}
            end = outcome_text("completed", outputs=outputs), compact({"outputs": outputs})
            await self._queue.answer(self._run, path, *end)

    async def _take(self) -> None:
        self._nonces += 1
        nonce = f"n{self._nonces}"
        for taken in await self._queue.take("w", nonce, 600.0, dict.fromkeys(("cpu", "gpu", "async"), 20)):
            body = json.loads(taken.body)
            prefix = body.get("prefix", "")
            known = dict(body.get("feed", {}))
            if taken.attempt > 1:
                ledger = await self._queue.nodes(taken.run, [prefix + id_ for id_ in body["nodes"]])
                ends = {path: outcome for path, outcome in ledger.items() if outcome["status"] in ENDED}
                known |= {path.removeprefix(prefix): outcome for path, outcome in ends.items()}
            right = Right(taken.task, taken.attempt, nonce)
            self._tasks.append(_Held(taken, right, body["nodes"], known, body.get("inputs", {}), prefix))

    async def _turn(self) -> bool:
        """Do something; False if all that is left is held back."""
        rng = self._rng
        able = [task for task in self._tasks if self._choices(task)]
        if not able:
            return False
        task = rng.choice(able)
        if rng.random() < 0.05:
            await self._queue.give_back(task.right, "drain", spent=_SPENT)
            self._tasks.remove(task)
            return True
        ends = []
        for _ in range(rng.randint(1, 3)):
            if not (choices := self._choices(task)):
                break
            ends += self._end(task, rng.choice(choices))
        last = all(id_ in task.known for id_ in task.nodes)
        answer = await self._queue.commit(task.right, ends, last=last)
        if last or answer != "ok":
            self._tasks.remove(task)
        return True

    def _choices(self, task: _Held) -> list[str]:
        return [id_ for id_ in task.ready if task.prefix + id_ != self.held]

    def _end(self, task: _Held, id_: str) -> list[NodeEnd]:
        path, node = task.prefix + id_, task.nodes[id_]
        decision = decide(node, Scope(task.inputs, task.known))
        if isinstance(decision, Skip):
            return [self._note(task, id_, {"status": "skipped", "reason": decision.reason})]
        if self._ended[task.taken.task, path]:
            self.twice.append(path)
        self._ended[task.taken.task, path] += 1
        try:
            outcome: Outcome = {"status": "completed", "outputs": compute(node["type"], decision)}
        except PickyError:
            outcome = {"status": "failed", "problem": _FAILED}
            if node.get("on_error") == "skip":
                outcome = {"status": "skipped", "reason": "error", "problem": _FAILED}
        return [NodeEnd(path, "", "{}"), self._note(task, id_, outcome)]

    @staticmethod
    def _note(task: _Held, id_: str, outcome: Outcome) -> NodeEnd:
        task.known[id_] = outcome
        rest = {key: value for key, value in outcome.items() if key != "status"}
        return NodeEnd(task.prefix + id_, outcome_text(**outcome), compact(rest))


class Rig:
    """What the runs of a test share."""

    def __init__(self, url: str, queue: Queue, store: Store, artifacts: Bytes) -> None:
        self._url, self._queue, self._store, self._artifacts = url, queue, store, artifacts
        self._settings = ControlSettings(linger_seconds=3600.0, archive_seconds=600.0)
        self._catalog = oracle_catalog()
        self._dropped: list[FrailQueue] = []  # else what still waits for them is collected as garbage, loudly

    async def drive(
        self, case: Case, rng: random.Random, held: str | None = None, unheld: set[str] | None = None
    ) -> Seen:
        """Run a case to its end; a node that is `held` ends only once all of `unheld` have. Raises TimeoutError."""
        row = await self._opened(case, f"r{rng.getrandbits(60):015x}", chains=rng.random() < 0.7)
        workers = Workers(self._queue, row.id, rng, held)
        working = asyncio.ensure_future(workers.work())
        releasing = asyncio.ensure_future(_release(workers, unheld or set()))
        try:
            async with asyncio.timeout(60):
                drivers, frames = await self._driven(row, rng, working, releasing)
        finally:
            await stop([working, releasing])
        events = await read_events(self._queue.client, row.id, START, _ALL_EVENTS)
        return Seen(await self._store.run(row.id), events, workers.twice, drivers, frames)

    async def _opened(self, case: Case, run: str, *, chains: bool) -> RunRow:
        checked = check(case.document, self._catalog, library=case.library)
        made = plan(checked, self._catalog, chains=chains)
        planned = Planned.make(made, frozenset())
        inputs = bind_inputs(checked, case.inputs)
        row = a_run(run, status="running", owner="c1", epoch=1, workflow=made.workflow, inputs=inputs)
        await self._store.insert_run(replace(row, workflow_digest=digest(case.document)))
        await open_run(self._queue, row, planned, 1.0)
        return row

    async def _driven(self, row: RunRow, rng: random.Random, *others: "asyncio.Future[None]") -> tuple[int, set[str]]:
        """Drive a run by one driver after another."""
        crashes = rng.choice((0, 0, 1, 2, 4))
        for epoch in range(1, crashes + 2):
            dies = rng.randint(1, 14) if epoch <= crashes else 1 << 30
            queue = FrailQueue(self._queue.client, dies, replyless=rng.random() < 0.5)
            self._dropped.append(queue)
            driving = asyncio.ensure_future(self._by(queue, row.id, epoch))
            dying = asyncio.ensure_future(queue.died.wait())
            try:
                waited: set[asyncio.Future[Any]] = {driving, dying, *others[:1]}
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if others[0].done():
                    others[0].result()
                if driving.done():
                    return epoch, driving.result()
            finally:
                await stop([driving, dying])
        raise AssertionError("the last driver does not die")

    async def _by(self, queue: FrailQueue, run: str, epoch: int) -> set[str]:
        """One driver's life, as `Driver.adopt` and `Driver._drive` have it; returns the frames left open."""
        parts, owner = Parts(queue, self._store, self._artifacts, self._settings), f"{run}c{epoch}"
        if not await self._store.take_over(run, owner, epoch + 1, parked=False):
            return set()
        row = await self._store.run(run)
        answer = await queue.own(run, owner, row.epoch)
        if answer != "owned":
            await archive(parts, row, row.epoch, None)
            return set()
        async with _heard(self._url, owner) as reader:
            drive = Drive(row, await planned_of(queue, run), parts)
            reader.tell(run, drive)
            await drive.run(await queue.ledger(run))
        return set(drive._walking.frames._open) - {""}


class _Ear:
    """Reads a driver's stream."""

    def __init__(self, reader: DriveReader) -> None:
        self._reader = reader
        self.reading: asyncio.Future[None] | None = None

    def tell(self, run: str, drive: Drive) -> None:
        """Wake a drive by what is read."""
        self.reading = asyncio.ensure_future(self._read(run, drive))

    async def _read(self, run: str, drive: Drive) -> None:
        while True:
            for wake in await self._reader.read():
                if wake.run == run:
                    drive.wake(wake.outcomes, wake.news)


@contextlib.asynccontextmanager
async def _heard(url: str, owner: str) -> AsyncIterator[_Ear]:
    reader = DriveReader(url, owner)
    ear = _Ear(reader)
    try:
        yield ear
    finally:
        if ear.reading is not None:
            await stop([ear.reading])
        await reader.close()


async def _release(workers: Workers, unheld: set[str]) -> None:
    """Let go of what is held back once everything else has ended; whoever waited for it in vain never ends."""
    while workers.held is not None:
        ended = {event["node"] for event in workers.events if event["type"] in ENDS}
        if unheld <= ended:
            workers.held = None
        await asyncio.sleep(0.002)


ENDS = frozenset({"node.completed", "node.failed", "node.skipped"})


def artifacts_in(folder: Path) -> Bytes:
    """Return a store for values that are too large; these runs have none."""
    from spindle_common.artifacts.directory import DirectoryStore

    return DirectoryStore(folder)
