"""What people do with runs that are under way or over: cancel, pause, resume, retry; and with dead letters.

pause   script: nothing is taken any more -> running tasks end -> the driver parks it in the database
resume  script, or from the database under a new epoch (`Driver.restore`)
retry   a new run of the same workflow and inputs that re-uses what was committed; so does redrive of a dead letter
"""

import asyncio
import json
import re
from typing import Any

from spindle_common.digests import digest
from spindle_common.events import cursor, rfc3339
from spindle_common.problems import Conflict, InvalidRequest, NotFound, StateLost, Unavailable
from spindle_common.queue import DeadLetter, compact
from spindle_control.drive import Parts, archive
from spindle_control.driver import Driver
from spindle_control.opening import park_run, with_seeds
from spindle_control.planner import Planner
from spindle_control.runs import RunService
from spindle_control.store import ENDED, RunRow

Json = dict[str, Any]
_PARKING_SECONDS = 10.0
_LOOK_SECONDS = 0.05
_ENTRY = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
_LETTERS = 1000  # read at once: other tenants' lie in between


class RunEnded(Conflict):
    """The run has ended, so it can be neither paused nor resumed."""

    code, title = "run-ended", "The run has ended"


class RunNotEnded(Conflict):
    """Only a run that has ended can be repeated."""

    code, title = "run-not-ended", "The run has not ended"


class Operations:
    """Each may be repeated; a run that is already as asked for stays as it is."""

    def __init__(self, parts: Parts, planner: Planner, driver: Driver, runs: RunService) -> None:
        self._parts, self._planner, self._driver, self._runs = parts, planner, driver, runs

    # Under way -----------------------------------------------------------------------------------------------------

    async def cancel(self, run: str, tenant: str) -> Json:
        """End a run at once; one that has ended stays as it ended. Raises NotFound, Unavailable."""
        row = await self._parts.store.run(run, tenant)
        data = compact({"reason": "cancelled by its owner"})
        answer = row.status if row.status in ENDED else await self._steady(run, "cancel", data)
        if answer == "missing" and await self._brought_back(run):
            answer = await self._steady(run, "cancel", data)
        if row.status not in ENDED and (row.owner is None or answer == "missing"):
            await archive(self._parts, row, row.epoch, None)
        return await self._runs.record(run, tenant)

    async def pause(self, run: str, tenant: str) -> Json:
        """Let running tasks end and start no others. Raises NotFound, RunEnded, StateLost, Unavailable."""
        row = await self._parts.store.run(run, tenant)
        answer = row.status if row.status in ENDED else await self._parts.queue.pause(run)
        if answer == "missing":
            row = await self._parts.store.run(run, tenant)
            answer = row.status
            if answer not in (*ENDED, "paused"):
                raise StateLost("Redis no longer holds what was in flight")
        _not_ended(answer)
        if answer == "paused" and row.owner is None:  # nobody drives it, so nobody else would park it
            await park_run(self._parts.queue, self._parts.store, run, row.epoch)
        return await self._runs.record(run, tenant)

    async def resume(self, run: str, tenant: str) -> Json:
        """Go on with a paused run. Raises NotFound, RunEnded, StateLost, Unavailable."""
        row = await self._parts.store.run(run, tenant)
        answer = row.status if row.status in ENDED else await self._steady(run, "resume")
        if answer == "missing":
            await self._brought_back(run)
            row = await self._parts.store.run(run, tenant)
            answer = row.status
            if answer == "paused":
                raise StateLost("what was kept of the paused run cannot be brought back")
        _not_ended(answer)
        return await self._runs.record(run, tenant)

    async def _steady(self, run: str, step: str, data: str = "{}") -> str:
        """Take a step once the run is not just being parked; that takes a moment."""
        queue = self._parts.queue
        deadline = asyncio.get_running_loop().time() + _PARKING_SECONDS
        while True:
            answer = await (queue.resume(run) if step == "resume" else queue.finish(run, None, "cancelled", data))
            if answer != "parking":
                return answer
            if await self._brought_back(run):
                continue
            if asyncio.get_running_loop().time() > deadline:
                raise Unavailable("the run is being parked", retry_after=2.0)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _brought_back(self, run: str) -> bool:
        """Restore the run if it is parked in the database."""
        row = await self._parts.store.run(run)
        return row.status == "paused" and await self._driver.restore(row)

    # Over ----------------------------------------------------------------------------------------------------------

    async def retry(self, run: str, tenant: str, idempotency_key: str | None = None) -> RunRow:
        """Accept a new run that repeats an ended one and re-uses what it committed.

        Raises:
            NotFound, RunNotEnded, InvalidWorkflow (a node type is gone), Conflict (the key), TooManyRequests,
            Unavailable.

        """
        row = await self._parts.store.run(run, tenant)
        if row.status not in ENDED:
            raise RunNotEnded(f"it is {row.status}; cancel it first, or wait")
        seeded = self._planner.accept(row.workflow).planned.seeded
        body = {"workflow": with_seeds(row.id, row.workflow, seeded), "inputs": row.inputs, "priority": row.priority}
        key = (idempotency_key, digest({"retry": row.id})) if idempotency_key else None
        return await self._runs.repeat(row, body, _reusable(row), key)

    async def dead_letters(self, tenant: str, after: str | None, limit: int) -> Json:
        """Page through tasks that used up their budget, newest first. Raises InvalidRequest, Unavailable."""
        if after is not None and not _ENTRY.fullmatch(after):
            raise InvalidRequest("The cursor `after` is not one that a page gave as `next`.")
        mine: list[Json] = []
        before = f"({after}" if after else "+"
        found: list[DeadLetter] | None = None
        while len(mine) <= limit and (found is None or len(found) == _LETTERS):
            found = await self._parts.queue.dead_letters(before, _LETTERS)
            mine += [_letter(each) for each in found if each.fields["tenant"] == tenant]
            before = f"({found[-1].id}" if found else before
        return {"dead_letters": mine[:limit], "next": mine[limit - 1]["id"] if len(mine) > limit else None}

    async def redrive(self, letter: str, tenant: str) -> RunRow:
        """Repeat the run of a dead letter and forget the letter; at once by several, they get the same run.

        Raises:
            as `retry` does.

        """
        found = await self._parts.queue.dead_letter(letter) if _ENTRY.fullmatch(letter) else None
        if found is None or found.fields["tenant"] != tenant:
            raise NotFound(f"There is no dead letter {letter[:40]!r}.")
        row = await self.retry(found.fields["run"], tenant, f"redrive {letter}")  # no caller's key has a space
        await self._parts.queue.bury(letter)
        return row


def _not_ended(status: str) -> None:
    if status in ENDED:
        raise RunEnded(f"it is {status}")


def _reusable(row: RunRow) -> Json:
    """Results of a run that another may take over: what its nodes completed, not what was skipped or failed."""
    kept = {path: outcome for path, outcome in (row.nodes or {}).items() if outcome["status"] == "completed"}
    return {
        path: {"status": "completed", "outputs": outcome.get("outputs", {}), "reused": True}
        for path, outcome in kept.items()
    }


def _letter(letter: DeadLetter) -> Json:
    fields = letter.fields
    history = json.loads(fields["history"])
    return {
        "id": letter.id,
        "time": rfc3339(cursor(letter.id)[0]),
        "run": fields["run"],
        "queue": fields["queue"],
        "nodes": json.loads(fields["paths"]),
        "attempts": int(fields["attempt"]),
        "problem": json.loads(fields["problem"]),
        "history": [{**{k: v for k, v in past.items() if k != "at"}, "time": rfc3339(past["at"])} for past in history],
    }
