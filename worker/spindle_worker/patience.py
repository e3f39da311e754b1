"""A worker's patience with the object store: what is away, slow or full is tried again while the task's lease is kept.

A picture that took minutes to make must not be lost to a store that restarts. What can't get better by waiting (refused
credentials, corrupt or missing bytes) is told at once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from spindle_common.artifacts import ArtifactStore, StoreUnavailable

log = logging.getLogger(__name__)
_FIRST_SECONDS, _LONGEST_SECONDS = 0.5, 10.0

T = TypeVar("T")


class PatientStore:
    """Puts and reads, each tried again for so many seconds."""

    def __init__(self, store: ArtifactStore, seconds: float) -> None:
        self._store, self._seconds = store, seconds

    async def put(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Store bytes and return their artifact. Raises StoreUnavailable once patience has ended."""
        return await self._patiently(lambda: self._store.put(data, media_type))

    async def read(self, digest: str) -> bytes:
        """Return bytes. Raises ArtifactNotFound, and StoreUnavailable once patience has ended."""
        return await self._patiently(lambda: self._store.read(digest))

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        clock = asyncio.get_running_loop().time
        until, pause = clock() + self._seconds, _FIRST_SECONDS
        while True:
            try:
                return await work()
            except StoreUnavailable as error:
                if type(error) is not StoreUnavailable or clock() + pause > until:
                    raise
                log.warning("the store is waited for: %s", error)
            await asyncio.sleep(pause)
            pause = min(_LONGEST_SECONDS, pause * 2)
