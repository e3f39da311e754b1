"""Those who wait for news from Redis, each on a connection of its own: a control, and a worker's two.

drive:{owner} --DriveReader--> the driver     queue:{queue} --EntryWatch--> take     stopped --StopWatch--> cancel
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from spindle_common import keys
from spindle_common.connection import BLOCK_MS, away, connect


class Wake(NamedTuple):
    """What woke a driver: outcomes of a run's nodes, or news of the run: how someone ended it, `paused`, `resumed`."""

    id: str
    run: str
    outcomes: dict[str, Any]
    news: str | None


class DriveReader:
    """Reads a control's own stream on its own connection, from the start at each new process."""

    def __init__(self, url: str, owner: str) -> None:
        self._client = connect(url, blocking=True)
        self._key, self._last = keys.drive(owner), "0"

    @property
    def last(self) -> str:
        """Id of the last entry that was read."""
        return self._last

    async def read(self) -> list[Wake]:
        """Block for at most five seconds; what was read before is deleted. Raises Unavailable, ValueError, KeyError.

        After an error the ledgers have to be read: entries may be gone.
        """
        reply = await away(self._client.xread({self._key: self._last}, count=1000, block=BLOCK_MS))
        rows = reply[self._key][0] if reply else []
        if rows:
            self._last = rows[-1][0]
            await away(self._client.xtrim(self._key, minid=self._last, approximate=False))
        return [_wake(entry, fields) for entry, fields in rows]

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()


def _wake(entry: str, fields: Mapping[str, str]) -> Wake:
    return Wake(entry, fields["run"], json.loads(fields.get("outcomes", "{}")), fields.get("news"))


class EntryWatch:
    """Wakes a worker when a queue's stream grows; it reads ids only to know, taking is done by `take`."""

    def __init__(self, url: str) -> None:
        self._client = connect(url, blocking=True)
        self._seen: dict[str, str] = {}

    async def wait(self, queues: Sequence[str]) -> bool:
        """Block until one of the queues has an entry newer than any seen, at most five seconds."""
        every = [keys.queue(name, form) for name in queues for form in keys.FORMS]
        streams: dict[Any, Any] = {key: self._seen.get(key, "0") for key in every}
        reply = await away(self._client.xread(streams, count=100, block=BLOCK_MS))
        for key, batches in (reply or {}).items():
            self._seen[key] = batches[0][-1][0]
        return bool(reply)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()


class StopWatch:
    """Hears of runs that ended, by pub/sub: a nudge only, every beat and commit tells the truth."""

    def __init__(self, url: str, heard: Callable[[str], None]) -> None:
        self._client = connect(url, blocking=True)
        self._heard = heard

    async def listen(self) -> None:
        """Call `heard` with each run that ended, until cancelled or Redis goes away (Unavailable)."""
        async with self._client.pubsub(ignore_subscribe_messages=True) as pubsub:
            await away(pubsub.subscribe(keys.STOPPED))
            while True:
                message = await away(pubsub.get_message(timeout=BLOCK_MS / 1000))
                if message:
                    self._heard(message["data"])

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()
