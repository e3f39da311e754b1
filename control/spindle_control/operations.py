"""What people do with runs that are under way or over: cancel, pause, resume, retry, fork; dead letters.

pause   script: nothing is taken any more -> running tasks end -> the driver parks it in the database
resume  script, or from the database under a new epoch (`Driver.restore`)
retry   a new run of the same workflow and inputs that re-uses what was committed; so does redrive of a dead letter
fork    a new run of a changed workflow, or with other inputs, that re-uses what the change does not touch
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from spindle_common.digests import digest
from spindle_common.events import cursor, rfc3339
from spindle_common.problems import Conflict, InvalidRequest, NotFound, StateLost, Unavailable
from spindle_common.queue import DeadLetter, compact
from spindle_control.drive import Parts, archive
from spindle_control.driver import Driver
from spindle_control.forking import Forking
from spindle_control.opening import park_run
from spindle_control.runs import RunService
from spindle_control.store import ENDED, RunRow

Json = dict[str, Any]
_MOVING_SECONDS = 10.0
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

    def __init__(self, parts: Parts, forking: Forking, driver: Driver, runs: RunService) -> None:
        self._parts, self._forking, self._driver, self._runs = parts, forking, driver, runs

    @property
    def parts(self) -> Parts:
        """Queue, database and settings."""
        return self._parts

    async def record(self, run: str, tenant: str) -> Json:
        """A run as the API shows it."""
        return await self._runs.record(run, tenant)

    # Under way -----------------------------------------------------------------------------------------------------

    async def cancel(self, run: str, tenant: str) -> Json:
        """End a run at once; one that has ended stays as it ended. Raises NotFound, Unavailable."""
        row = await self._parts.store.run(run, tenant)
        if row.status not in ENDED:
            data = compact({"reason": "cancelled by its owner"})
            answer = await self.steady(run, lambda: self._parts.queue.finish(run, None, "cancelled", data))
            row = await self._parts.store.run(run)
            if row.status not in ENDED and (row.owner is None or answer == "missing"):
                await archive(self._parts, row, row.epoch, None)
        return await self._runs.record(run, tenant)

    async def pause(self, run: str, tenant: str) -> Json:
        """Let running tasks end and start no others. Raises NotFound, RunEnded, StateLost, Unavailable."""
        row = await self._parts.store.run(run, tenant)
        if row.status not in ENDED:
            answer = await self.steady(run, lambda: self._parts.queue.pause(run), rests=True)
            row = await self._parts.store.run(run)
            if answer == "paused" and row.owner is None:  # nobody drives it, so nobody else would park it
                await park_run(self._parts.queue, self._parts.store, run, row.epoch)
        return await self._going_on(run, tenant, row.status if row.status in ENDED else answer)

    async def resume(self, run: str, tenant: str) -> Json:
        """Go on with a paused run. Raises NotFound, RunEnded, StateLost, Unavailable."""
        status = (await self._parts.store.run(run, tenant)).status
        if status not in ENDED:
            status = await self.steady(run, lambda: self._parts.queue.resume(run))
        return await self._going_on(run, tenant, status)

    async def _going_on(self, run: str, tenant: str, answer: str) -> Json:
        if answer in ENDED:
            raise RunEnded(f"it is {answer}")
        if answer == "missing":
            raise StateLost("Redis no longer holds what was in flight")
        return await self._runs.record(run, tenant)

    async def steady(self, run: str, step: Callable[[], Awaitable[str]], *, rests: bool = False) -> str:
        """Take a step of the script while the run is neither on its way into the database nor out of it.

        A parked run is brought back first, unless it shall rest anyway. Answers what the script said, the status of a
        run that has ended, or `missing` for one that was lost.
        """
        deadline = asyncio.get_running_loop().time() + _MOVING_SECONDS
        missed = -1
        while (answer := await step()) in ("missing", "parking"):
            row = await self._parts.store.run(run)
            if row.status in ENDED or (rests and (answer == "parking" or row.status == "paused")):
                return row.status if row.status in ENDED else "parked"
            if answer == "missing" and row.status != "paused" and row.parked is None:
                if missed == row.epoch and row.status == "queued":
                    raise Unavailable("the run was lost while it waited, and is about to wait again", retry_after=5.0)
                if missed == row.epoch:  # nobody has it, and nobody had it in between
                    return "missing"
                missed = row.epoch
                continue
            if row.status != "paused" or not await self._driver.restore(row):
                if asyncio.get_running_loop().time() > deadline:
                    raise Unavailable("the run is being parked or brought back", retry_after=2.0)
                await asyncio.sleep(_LOOK_SECONDS)
        return answer

    # Over ----------------------------------------------------------------------------------------------------------

    async def retry(
        self, run: str, tenant: str, idempotency_key: str | None = None, *, reason: str = "retry"
    ) -> RunRow:
        """Accept a new run that repeats an ended one and re-uses what it committed.

        Raises:
            NotFound, RunNotEnded, InvalidWorkflow (a node type is gone), Conflict (the key), TooManyRequests,
            Unavailable.

        """
        row = await self._over(run, tenant)
        key = (idempotency_key, digest({"retry": row.id})) if idempotency_key else None
        return await self._runs.repeat(row, await self._forking.repeat(row, {}, reason), key)

    async def fork(self, run: str, tenant: str, wish: Json, idempotency_key: str | None = None) -> RunRow:
        """Accept a new run that repeats an ended one, different as the wish says, and re-uses the rest.

        Raises:
            as `retry` does; InvalidRequest where the wish cannot be read.

        """
        row = await self._over(run, tenant)
        key = (idempotency_key, digest({"fork": row.id, **wish})) if idempotency_key else None
        return await self._runs.repeat(row, await self._forking.repeat(row, wish, "fork"), key)

    async def foresee(self, run: str, tenant: str, wish: Json) -> Json:
        """Return the paths that a fork would re-use, run and skip, without making it. Raises as `fork` does."""
        repeat = await self._forking.repeat(await self._over(run, tenant), wish, "fork")
        return repeat.shares.to_json()

    async def _over(self, run: str, tenant: str) -> RunRow:
        """Return a run that has ended, archived at once if its driver has not come to that yet."""
        row = await self._parts.store.run(run, tenant)
        if row.status not in ENDED and (await self._parts.queue.run_fields(row.id, "status"))[0] in ENDED:
            await archive(self._parts, row, row.epoch, None)
            row = await self._parts.store.run(row.id)
        if row.status not in ENDED:
            raise RunNotEnded(f"it is {row.status}; cancel it first, or wait")
        return row

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
        key = f"redrive {letter}"  # no caller's key has a space
        row = await self.retry(found.fields["run"], tenant, key, reason="redrive")
        await self._parts.queue.bury(letter)
        return row


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
