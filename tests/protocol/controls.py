"""Simulated controls: they accept runs, drive, sweep, adopt, park, restore and reconcile as the real ones do.

Only what a control says to Redis and to the database is copied here, in its order; what it thinks is as simple as can
be: a task is dispatched once all nodes that it needs have ended, and skipped when one of them did not complete.
"""

import json
import random
import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from protocol.database import ENDED, Database, Row, TaskPlan, database
from protocol.workers import patiently
from protocol.world import CONTROL_LEASE, World
from spindle_common import keys
from spindle_common.connection import away
from spindle_common.problems import Crashed, TimedOut, Unavailable
from spindle_common.queue import NodeEnd, Offer, compact, outcome_text

CRASHED, WAITED = Crashed().problem(), TimedOut().problem()
CRASH_BUDGET = 3
ACCEPT = 20.0
CLOSED = (*ENDED, "skipped")
Outcome = dict[str, Any]
Requests = deque[tuple[str, Row]]


@dataclass
class Drive:
    """A run in a control's hands."""

    row: Row
    board: dict[str, Outcome] = field(default_factory=dict)
    offered: set[str] = field(default_factory=set)
    paused: bool = False
    news: str | None = None

    def wake(self, outcomes: Mapping[str, Outcome], news: str | None) -> None:
        """Take in what was heard."""
        self.board |= {path: o for path, o in outcomes.items() if o["status"] in CLOSED}
        if news == "paused":
            self.paused = True
        elif news == "resumed":
            self.paused = False
        elif news:
            self.news = news


class Control:
    """One process; `requests`: what people ask of whichever control comes first."""

    def __init__(self, world: World, db: Database, requests: Requests, name: str, rng: random.Random) -> None:
        self._queue, self._db, self._requests = world.queue(), db, requests
        self._name, self._rng, self._room = name, rng, rng.randint(0, 3)
        self._drives: dict[str, Drive] = {}
        self._last = "0"
        self.stopping = False

    async def run(self) -> None:
        """Go round until told to stop."""
        await patiently(self._beat)
        acts = [self._beat, self._sweep, self._fill, self._wakes, self._serve, self._reconcile, *[self._advance] * 3]
        while not self.stopping:
            for act in self._rng.sample(acts, len(acts)):
                try:
                    await act()
                except Unavailable:
                    if act == self._wakes:
                        await self._rescan()
        await patiently(lambda: self._queue.control_beat(self._name, -1.0))

    async def _beat(self) -> None:
        await self._queue.control_beat(self._name, CONTROL_LEASE)

    # People --------------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        if not self._requests:
            return
        kind, row = self._requests.popleft()
        if kind == "submit":
            await self._submit(self._db.new(row))
        elif not await getattr(self, f"_{kind}")(row.run):
            self._requests.append((kind, row))

    async def _submit(self, row: Row) -> None:
        if len(self._drives) < self._room:
            row.status, row.owner, row.epoch = "running", self._name, 1
        await patiently(lambda: self._open(row))
        await patiently(lambda: database(self._db.insert, row))
        if row.status == "running":
            self._drives[row.run] = Drive(row)

    async def _open(self, row: Row) -> str:
        return await self._queue.open(row.run, status=row.status, owner=row.owner, epoch=row.epoch, fields=row.fields)

    async def _cancel(self, run: str) -> bool:
        row = await database(self._db.get, run)
        if row is None or row.status in ENDED:
            return row is not None
        answer = await patiently(lambda: self._queue.finish(run, None, "cancelled", "{}"))
        if answer in ("parking", "missing") and row.status == "paused":
            await self._restore(row)
            return False
        if not row.owner or answer == "missing":
            await self._archive(row, None)
        return bool(answer != "parking")

    async def _pause(self, run: str) -> bool:
        row = await database(self._db.get, run)
        if row is None:
            return False
        answer = await patiently(lambda: self._queue.pause(run))
        if answer == "paused" and not row.owner:
            await self._park(run, row.epoch)
        return True

    async def _resume(self, run: str) -> bool:
        row = await database(self._db.get, run)
        if row is None or row.status in ENDED:
            return row is not None
        answer = await patiently(lambda: self._queue.resume(run))
        if answer in ("missing", "parking") and row.status == "paused":
            await self._restore(row)
        return bool(answer != "parking")

    # Taking runs ---------------------------------------------------------------------------------------------------

    async def _adopt(self, row: Row) -> None:
        queued, epoch, run = row.status == "queued", row.epoch + 1, row.run
        if not await patiently(lambda: database(self._db.take_over, run, self._name, epoch)):
            return
        row = await database(self._db.get, run)
        if row.parked is not None:
            await self._bring_back(row)
            return
        answer = await patiently(lambda: self._queue.own(run, self._name, epoch))
        if answer == "missing" and queued:
            await patiently(lambda: self._open(row))
            answer = "owned"
        if answer in ("owned", "paused"):
            await self._drive(row, paused=answer == "paused")
        elif answer in ("ended", "missing"):
            await self._archive(row, None)

    async def _drive(self, row: Row, *, paused: bool) -> None:
        drive = Drive(row, paused=paused)
        drive.wake(await patiently(lambda: self._queue.ledger(row.run)), None)
        self._drives[row.run] = drive

    async def _restore(self, row: Row) -> None:
        if row.parked is not None and await database(self._db.take_over, row.run, self._name, row.epoch + 1):
            await self._bring_back(await patiently(lambda: database(self._db.get, row.run)))

    async def _bring_back(self, row: Row) -> None:
        restore = partial(self._queue.restore, row.run, owner=self._name, epoch=row.epoch, fields=row.fields)
        restored = await patiently(lambda: restore(last_event=row.parked or "", ledger=row.nodes))
        if restored == "exists":
            await patiently(lambda: self._queue.own(row.run, self._name, row.epoch))
        await patiently(lambda: database(self._db.resumed, row.run, row.epoch))
        await self._drive(row, paused=False)

    async def _sweep(self) -> None:
        for owner in (await self._queue.sweep(CRASHED, WAITED)).controls:
            if owner != self._name:
                for row in await database(self._db.open_rows, owner):
                    if row.status == "running":
                        await self._adopt(row)
                await self._queue.control_gone(owner)

    async def _fill(self) -> None:
        while len(self._drives) < max(1, self._room):
            run = await self._queue.next_waiting()
            row = await database(self._db.get, run) if run else None
            if row is None:
                return
            if row.status == "queued":
                await self._adopt(row)

    # Driving -------------------------------------------------------------------------------------------------------

    async def _wakes(self) -> None:
        key = keys.drive(self._name)
        reply = await away(self._queue.client.xread({key: self._last}, count=100))
        for entry, fields in reply[key][0] if reply else []:
            self._last = entry
            if drive := self._drives.get(fields["run"]):
                drive.wake(json.loads(fields.get("outcomes", "{}")), fields.get("news"))
        if reply:
            await away(self._queue.client.xtrim(key, minid=self._last))

    async def _rescan(self) -> None:
        for run, drive in list(self._drives.items()):
            drive.wake(await patiently(partial(self._queue.ledger, run)), None)
            (status,) = await patiently(partial(self._queue.run_fields, run, "status"))
            if status not in (None, "parking"):
                drive.wake({}, "resumed" if status == "running" else status)

    async def _advance(self) -> None:
        for run, drive in list(self._drives.items()):
            answer = drive.news or (await self._rest(drive) if drive.paused else await self._progress(drive))
            if answer != "ok":
                await self._leave(run, drive, answer)

    async def _rest(self, drive: Drive) -> str:
        answer = await patiently(lambda: self._park(drive.row.run, drive.row.epoch))
        return answer if answer in ("parked", "stale", "missing") else "ok"

    async def _progress(self, drive: Drive) -> str:
        run, epoch, row = drive.row.run, drive.row.epoch, drive.row
        for task in row.tasks:
            if any(path not in drive.board for path in (*task.needs, *())) or task.name in drive.offered:
                continue
            answer = await self._decide(drive, task)
            if answer != "ok":
                return answer
        if any(path not in drive.board for task in row.tasks for path in task.nodes):
            return "ok"
        failed = any(outcome["status"] == "failed" for outcome in drive.board.values())
        status = "failed" if failed else "completed"
        answer = str(await patiently(lambda: self._queue.finish(run, epoch, status, "{}")))
        return "ended" if answer == "ok" else answer

    async def _decide(self, drive: Drive, task: TaskPlan) -> str:
        run, epoch = drive.row.run, drive.row.epoch
        if all(path in drive.board for path in task.nodes):
            drive.offered.add(task.name)
            return "ok"
        if any(drive.board[path]["status"] != "completed" for path in task.needs):
            skip = outcome_text("skipped", reason="upstream")
            ends = [NodeEnd(path, skip, "{}") for path in task.nodes if path not in drive.board]
            answer = str(await patiently(lambda: self._queue.settle(run, epoch, ends)))
            drive.board |= {end.path: {"status": "skipped"} for end in ends}
        else:
            feed = {path: drive.board[path]["outputs"] for path in task.needs}
            body = compact({"nodes": list(task.nodes), "feed": feed})
            form = keys.FORMS[zlib.crc32(f"{run}/{task.name}".encode()) % 2]  # not drawn: seeds stay what they were
            offer = Offer(task.name, task.queue, body, task.nodes, task.nodes[:1], task.patience, form)
            answer = str(await patiently(lambda: self._queue.dispatch(run, epoch, [offer], CRASH_BUDGET)))
        drive.offered.add(task.name)
        return answer

    async def _leave(self, run: str, drive: Drive, answer: str) -> None:
        if answer == "parking":
            answer = await patiently(lambda: self._park(run, drive.row.epoch))
        if self._drives.get(run) is drive:
            del self._drives[run]
        if answer not in ("stale", "parked"):
            await self._archive(drive.row, drive.row.epoch)

    async def _park(self, run: str, epoch: int) -> str:
        answer = await self._queue.park(run, epoch)
        if answer != "parking":
            return answer
        ledger, events = await self._queue.ledger(run), await self._events(run)
        if not await database(self._db.park, run, epoch, ledger, events):
            return "stale"
        await self._queue.parked(run, epoch)
        return "parked"

    async def _events(self, run: str) -> list[Any]:
        return list(await away(self._queue.client.xrange(keys.events(run))) or [])

    async def _archive(self, row: Row, epoch: int | None) -> None:
        run = row.run
        (status,) = await patiently(lambda: self._queue.run_fields(run, "status"))
        events = await patiently(lambda: self._events(run))
        nodes = await patiently(lambda: self._queue.ledger(run))
        now = await patiently(lambda: database(self._db.get, run))
        if (status or now.status) not in (*ENDED, "running", "queued") or status in ("running", "queued"):
            return  # it was parked, or brought back
        first = await patiently(lambda: database(self._db.end, run, epoch, status or "failed", nodes, events))
        if not first and (await patiently(lambda: database(self._db.get, run))).status not in ENDED:
            return
        await patiently(lambda: self._queue.archive(run, 0.0))

    # Reconciling ---------------------------------------------------------------------------------------------------

    async def _reconcile(self) -> None:
        for run, drive in list(self._drives.items()):
            (status,) = await self._queue.run_fields(run, "status")
            found = "missing" if status is None else await self._queue.audit(run, drive.row.epoch)
            if isinstance(found, str) and found != "parking":
                drive.wake({}, status if found == "ended" else found)
        live = await self._queue.live_controls()
        for row in await database(self._db.open_rows):
            await self._look_after(row, live)
        await self._clear(live)
        await self._queue.tidy()

    async def _look_after(self, row: Row, live: set[str]) -> None:
        if row.run in self._drives:
            return
        if row.status == "running" and row.owner not in live - {self._name}:
            await self._adopt(row)
        elif row.status == "queued":
            answer = await self._queue.enqueue(row.run)
            if answer == "missing" and await database(self._db.renew, row.run, row.epoch + 1):
                row.epoch += 1
                await self._open(row)
            elif answer == "parking":  # whoever parked it died over it
                await self._park(row.run, row.epoch)

    async def _clear(self, live: set[str]) -> None:
        for run in (await self._queue.runs_with_ledgers(0))[1]:
            status, owner, epoch = await self._queue.run_fields(run, "status", "owner", "epoch")
            row = await database(self._db.get, run)
            if status is None:
                await self._queue.clear(run)
            elif row is None:
                await self._queue.abandon(run, ACCEPT)
            elif row.status in ENDED:
                await self._queue.archive(run, 0.0)
            elif status == "queued" and row.status == "paused":  # opened again by one who did not see it parked
                await self._queue.abandon(run, 0.0)
            elif status == "parking" and owner not in live and row.status == "paused":
                await self._queue.parked(run, int(epoch or 0))
