"""The content cache's steps in Redis (design, section 8): what was computed before is not computed again.

    recall -> an outcome                a hit: spare and touch its bytes, then commit it
         -> Lead -> compute, commit     the commit keeps the outcome and rouses all who wait for it
         -> Wait -> wait                the task is handed back until whoever computes it has ended, however it ended

An entry's name is `{type}:{key}`; its tenant is told by the task. Redis holds it for an hour, the object store until
garbage collection finds it untouched for long. Every step may be repeated.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from spindle_common import keys
from spindle_common.connection import away
from spindle_common.queue import Queue, Right

ENTRY_BYTES = 16384
"""Longer outcomes are kept in the object store only; `ENTRY_BYTES` in the scripts."""
LEAD, WAIT = "lead", "wait"
SHELF = "cache/"
"""How names of entries begin on the object store's shelf."""
_PAGE = 500


class Wanted(NamedTuple):
    """What a node would like to find; `fly`: others that want it wait while it is computed."""

    path: str
    name: str
    fly: bool


class Looked(NamedTuple):
    """What was found: for each wanted its outcome as JSON text, `LEAD` or `WAIT`; or why nothing may be (`refused`)."""

    tenant: str
    answers: list[str]
    refused: str = ""


class Counts(NamedTuple):
    """How often something was looked for and found, or not."""

    hits: int
    misses: int


class Cache(Queue):
    """The steps, each one round trip."""

    async def recall(self, right: Right, wanted: Sequence[Wanted]) -> Looked:
        """Look for several at once. Raises Unavailable."""
        args = [part for one in wanted for part in (one.path, one.name, "1" if one.fly else "")]
        reply: Any = await self._step("cache_look", *right.args, *args)
        if isinstance(reply, str):
            return Looked("", [], reply)
        return Looked(str(reply[0]), [str(answer) for answer in reply[1:]])

    async def found(self, right: Right, path: str, outcome: str) -> str:
        """Put back what the object store had; `deleting`: its bytes are going."""
        return str(await self._step("cache_found", *right.args, path, outcome))

    async def lost(self, tenant: str, name: str, outcome: str) -> None:
        """Forget an entry whose bytes are gone."""
        await self._step("cache_lost", tenant, name, outcome)

    async def wait(self, right: Right, wanted: Sequence[Wanted]) -> str:
        """Hand a task back until one of these has ended, which others compute."""
        args = [part for one in wanted for part in (one.path, one.name)]
        return str(await self._step("cache_wait", *right.args, *args))

    async def counts(self, tenant: str) -> Counts:
        """Hits and misses of a tenant since Redis was last emptied, or the cache purged."""
        rows = await away(self.client.hmget(keys.cache_counts(tenant), ["hits", "misses"]))
        hits, misses = (max(0, int(row or 0)) for row in rows)
        return Counts(hits, misses)

    async def purge(self, tenant: str, prefix: str) -> None:
        """Forget a tenant's entries whose names begin so."""
        cursor, pattern = 0, keys.cache(tenant, prefix) + "*"
        while True:
            cursor, found = await away(self.client.scan(cursor, match=pattern, count=_PAGE))
            if found:
                await away(self.client.unlink(*found))
            if not cursor:
                break
        if not prefix:
            await away(self.client.delete(keys.cache_counts(tenant)))


def place(tenant: str, name: str) -> str:
    """Where the object store's shelf has an entry."""
    return f"{SHELF}{tenant}/{name.replace(':', '/')}"


def outputs_of(outcome: str) -> dict[str, Any]:
    """The outputs in an entry."""
    found: dict[str, Any] = json.loads(outcome)["outputs"]
    return found
