"""What is left of runs in Redis that nobody looks after any more, a page of keys at a time.

no hash                      lost, or never written          -> removed
parking, its driver gone     copied to the row               -> removed
ended, never archived        its driver died in between      -> archived
open, without a row          its submission was cut off      -> removed once it is older than a submission may take
"""

from typing import TYPE_CHECKING

from spindle_common.problems import NotFound
from spindle_common.queue import Left
from spindle_control import metrics
from spindle_control.drive import Parts, archive
from spindle_control.store import ENDED

if TYPE_CHECKING:
    from spindle_control.driver import Driver

_ACCEPT_SECONDS = 30.0


class Strays:
    """Goes over all keys, again and again."""

    def __init__(self, driver: "Driver", parts: Parts) -> None:
        self._driver, self._parts = driver, parts
        self._cursor = 0

    async def page(self, live: set[str]) -> None:
        """Look at one page; `live` are the controls whose lease holds. Raises Unavailable."""
        queue = self._parts.queue
        self._cursor, runs = await queue.runs_with_ledgers(self._cursor)
        unsure: list[str] = []
        for left in await queue.look([run for run in runs if not self._driver.holds(run)]):
            if left.status is None:
                metrics.mended.labels("key").inc(await queue.clear(left.run))
            elif left.status == "parking":
                await self._parked(left, live)
            elif left.status not in ENDED:
                unsure.append(left.run)
            elif left.stays:
                await self._ended(left, live)
        for run in await self._parts.store.unknown(unsure):
            metrics.mended.labels("key").inc(await queue.abandon(run, _ACCEPT_SECONDS))

    async def _parked(self, left: Left, live: set[str]) -> None:
        if left.owner in live:
            return
        try:
            row = await self._parts.store.run(left.run)
        except NotFound:
            return
        if row.status == "paused" and row.epoch == left.epoch:
            await self._parts.queue.parked(left.run, left.epoch)

    async def _ended(self, left: Left, live: set[str]) -> None:
        """A live owner is about to archive it itself."""
        if left.owner in live - {self._driver.owner}:
            return
        try:
            row = await self._parts.store.run(left.run)
        except NotFound:
            metrics.mended.labels("key").inc(await self._parts.queue.abandon(left.run, _ACCEPT_SECONDS))
            return
        metrics.mended.labels("run").inc()
        await archive(self._parts, row, None, None)
