"""What garbage collection and those who write bytes agree on, so that no named bytes are ever deleted.

    writer      spare(digest) -> put -> commit, or open: naming a digest pardons it
    collector   list -> condemn -> look again at what is named -> execute -> delete -> deleted

Before a put a writer says so (`spare`): for ten minutes nobody may delete these bytes, then they are named, or young.
What is being deleted cannot be spared, committed or opened; a deletion takes less than a minute, and one whose
collector died in it is over after that minute. All of it is by Redis TIME.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence

from spindle_common import keys
from spindle_common.connection import away
from spindle_common.queue import Queue

DELETE_SECONDS = 60.0
"""How long a deletion may take; `DELETE_MS` in the scripts."""
_ASK_SECONDS = 0.1
_PAGE = 500
_AT_ONCE = 1000
_HASHES = tuple(kind("") for kind in (keys.run, keys.ledger, keys.task))
_STREAMS = (keys.events(""), keys.DEAD)


class Garbage(Queue):
    """The steps of a collection, and of whoever puts bytes."""

    async def spare(self, *digests: str) -> None:
        """Announce that bytes are about to be put; waits while any are being deleted. Raises Unavailable."""
        for start in range(0, len(digests), _AT_ONCE):
            await self._spare(digests[start : start + _AT_ONCE])

    async def _spare(self, digests: Sequence[str]) -> None:
        while True:
            if await self._step("spare", *digests):
                return
            await asyncio.sleep(_ASK_SECONDS)

    async def collect(self, collection: str, lease: float, every: float) -> bool:
        """Whether a collection may begin: no other goes on, nor ended in the last `every` seconds."""
        return bool(await self._step("collect", collection, int(lease * 1000), int(every * 1000)))

    async def collecting(self, collection: str, lease: float) -> bool:
        """Renew a collection's lease; False if it was lost."""
        return bool(await self._step("collecting", collection, int(lease * 1000)))

    async def collected(self, collection: str, *, whole: bool) -> None:
        """End a collection; `whole`: it came to its end, the next one may wait."""
        await self._step("collected", collection, "1" if whole else "")

    async def condemn(self, collection: str, digests: Sequence[str]) -> None:
        """Mark bytes for deletion; whoever names one from now on in an outcome or input saves it."""
        for start in range(0, len(digests), _AT_ONCE):
            await self._step("condemn", collection, *digests[start : start + _AT_ONCE])

    async def execute(self, collection: str, digest: str) -> int:
        """When the deletion of condemned bytes began, in milliseconds, or 0: they stay. `deleted` must follow."""
        return int(await self._step("execute", collection, digest))

    async def deleted(self, digest: str, began: int) -> None:
        """Let the digest be put and named again: its bytes are gone."""
        await self._step("deleted", digest, began)

    async def now(self) -> int:
        """Milliseconds since 1970, by Redis TIME."""
        seconds, micros = await away(self.client.time())
        return int(seconds) * 1000 + int(micros) // 1000

    async def last_collected(self) -> int | None:
        """When a collection last came to its end, in milliseconds."""
        found = await away(self.client.get(keys.COLLECTED))
        return int(found) if found else None

    async def texts(self) -> AsyncIterator[str]:
        """Yield every text in Redis that may name bytes: of runs, ledgers, tasks, events and dead letters.

        What is there from the beginning to the end is not left out; what comes or goes meanwhile may be.
        """
        cursor = 0
        while True:
            cursor, found = await away(self.client.scan(cursor, match=keys.PREFIX + "*", count=_PAGE))
            for key in found:
                if key.startswith(_HASHES):
                    async for text in self._fields(key):
                        yield text
                elif key.startswith(_STREAMS):
                    async for text in self._entries(key):
                        yield text
            if not cursor:
                return

    async def _fields(self, key: str) -> AsyncIterator[str]:
        cursor = 0
        while True:
            cursor, found = await away(self.client.hscan(key, cursor, count=_PAGE))
            for text in found.values():
                yield text
            if not cursor:
                return

    async def _entries(self, key: str) -> AsyncIterator[str]:
        after = "-"
        while rows := await away(self.client.xrange(key, min=after, count=_PAGE)):
            for _, fields in rows:
                for text in fields.values():
                    yield text
            after = f"({rows[-1][0]}"
