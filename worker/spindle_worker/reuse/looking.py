"""One attempt's use of the content cache: looks made in the same turn of the loop share one round trip.

Within an attempt twins (nodes with the same key) wait for each other here; across attempts they wait in Redis.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from spindle_common.cache import ENTRY_BYTES, LEAD, WAIT, Wanted
from spindle_common.queue import NodeEnd, Right
from spindle_worker.committer import LostRight, patiently
from spindle_worker.reuse.cache import ContentCache, count

Answer = tuple[str, str] | None
"""Tenant and answer; None while Redis is away."""


class Elsewhere(Exception):
    """Another task computes it: this one waits."""


class Noted:
    """Opens secrets and remembers that it did: what such a node computes is not kept."""

    def __init__(self, secrets: Callable[[str], str]) -> None:
        self._secrets = secrets
        self.used = False

    def __call__(self, name: str) -> str:
        """Return the secret."""
        self.used = True
        return self._secrets(name)


class Looking:
    """Finds and keeps for an attempt; without a cache it finds nothing."""

    def __init__(self, cache: ContentCache | None, right: Right) -> None:
        self._cache, self._right = cache, right
        self._tenant = ""
        self._asked: list[tuple[Wanted, asyncio.Future[Answer]]] = []
        self._asking: asyncio.Task[None] | None = None
        self._computing: dict[str, asyncio.Future[dict[str, Any] | None]] = {}
        self._unkept: dict[str, tuple[Wanted, str]] = {}
        self.elsewhere: dict[str, Wanted] = {}

    async def find(self, wanted: Wanted) -> dict[str, Any] | None:
        """Return outputs as the ledger keeps them, or None: compute it, then say `ended`.

        Raises:
            Elsewhere: another task computes it.
            LostRight: this attempt's right to the task is lost.

        """
        while wanted.fly and (twin := self._computing.get(wanted.name)):
            outputs = await asyncio.shield(twin)
            if outputs is not None:
                count(wanted, "hit")
                return outputs
        if wanted.fly:
            self._computing[wanted.name] = asyncio.get_running_loop().create_future()
        return await self._found(wanted)

    def ended(self, wanted: Wanted | None, outputs: dict[str, Any] | None = None) -> None:
        """Tell twins what came of it; nothing if it was told before."""
        if wanted is not None and wanted.fly and (told := self._computing.pop(wanted.name, None)):
            told.set_result(outputs)

    async def keep(self, wanted: Wanted | None, outcome: str) -> None:
        """Keep what was computed for longer than Redis does; what is not too long for Redis only once it landed."""
        if wanted is None or self._cache is None or not self._tenant:
            return
        if len(outcome.encode()) > ENTRY_BYTES:
            await self._cache.keep(self._tenant, wanted, outcome)
        else:
            self._unkept[wanted.path] = wanted, outcome

    def landed(self, steps: Sequence[NodeEnd]) -> None:
        """Keep what was committed; it is off everybody's path now."""
        for step in steps:
            if self._cache is not None and step.outcome and (unkept := self._unkept.pop(step.path, None)):
                self._cache.keep_later(self._tenant, *unkept)

    async def wait(self) -> None:
        """Hand the task back until one of those that others compute has ended."""
        if self._cache is not None:
            steps, wanted = self._cache.steps, list(self.elsewhere.values())
            await patiently(lambda: steps.wait(self._right, wanted))

    async def _found(self, wanted: Wanted) -> dict[str, Any] | None:
        cache, outputs = self._cache, None
        answer = await self._ask(wanted)
        if cache is None or answer is None:
            return None
        if answer[1] not in (LEAD, WAIT):
            outputs = await cache.checked(answer[0], wanted, answer[1])
            if outputs is not None:
                count(wanted, "hit")
                return outputs
            answer = await self._ask(wanted)
        if answer is None or answer[1] != LEAD:
            self._not_here(wanted, answer)
            return None
        outputs = await cache.on_shelf(self._right, answer[0], wanted)
        count(wanted, "miss" if outputs is None else "stored")
        return outputs

    def _not_here(self, wanted: Wanted, answer: Answer) -> None:
        """Another computes it; or Redis went away, or an entry came again whose bytes are gone: compute it."""
        if answer is not None and answer[1] == WAIT:
            count(wanted, "wait")
            self.elsewhere[wanted.path] = wanted
            raise Elsewhere

    async def _ask(self, wanted: Wanted) -> Answer:
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked.append((wanted, answered))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.ensure_future(self._send())
        return await answered

    async def _send(self) -> None:
        await asyncio.sleep(0)
        while self._asked and self._cache is not None:
            asked, self._asked = self._asked, []
            looked = await self._cache.recall(self._right, [wanted for wanted, _ in asked])
            self._tenant = looked.tenant if looked else self._tenant
            for at, (_, answered) in enumerate(asked):
                if answered.done():  # whoever asked was stopped
                    continue
                if looked is not None and looked.refused:
                    answered.set_exception(LostRight(looked.refused))
                else:
                    answered.set_result((looked.tenant, looked.answers[at]) if looked else None)
