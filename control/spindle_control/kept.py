"""What the content cache keeps of a tenant: how much it is, how often it helped, and how to be rid of it."""

import re
from typing import Any

from spindle_common.artifacts import Shelf
from spindle_common.cache import Cache, place
from spindle_common.problems import InvalidRequest

_TYPE = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+(@[1-9][0-9]{0,5})?")
_MOST = 100_000


class KeptResults:
    """Looks at entries in Redis and on the object store's shelf; everything raises Unavailable."""

    def __init__(self, steps: Cache, shelf: Shelf) -> None:
        self._steps, self._shelf = steps, shelf

    async def about(self, tenant: str) -> dict[str, Any]:
        """Count entries and their bytes (100,000 at most), hits, misses, and hits among both."""
        entries = size = 0
        async for entry in self._shelf.on_shelf(place(tenant, "")):
            entries, size = entries + 1, size + entry.size
            if entries == _MOST:
                break
        hits, misses = await self._steps.counts(tenant)
        rate = round(hits / (hits + misses), 4) if hits + misses else None
        return {"entries": entries, "bytes": size, "hits": hits, "misses": misses, "hit_rate": rate}

    async def purge(self, tenant: str, node_type: str | None = None) -> int:
        """Forget everything, or what one node type computed, in one version or in all; returns how many entries.

        What is being computed meanwhile is kept when it is done. Raises InvalidRequest for what is no node type.
        """
        prefix = _prefix(node_type)
        names = {entry.name async for entry in self._shelf.on_shelf(place(tenant, prefix))}
        await self._steps.purge(tenant, prefix)
        for name in names:
            await self._shelf.unshelve(name)
        await self._steps.purge(tenant, prefix)  # a worker may have found one on the shelf in between
        return len(names)


def _prefix(node_type: str | None) -> str:
    if node_type is None:
        return ""
    if not _TYPE.fullmatch(node_type):
        raise InvalidRequest(f"{node_type[:80]!r} is no node type: it looks like image.generate or image.generate@1")
    return node_type + (":" if "@" in node_type else "@")
