"""A node's view of the object store: reads block its thread, writes go on behind its back until the commit.

Bytes that nobody names yet live for a while only (`spindle_common.garbage`): what was written long before its commit is
put again right before it, which touches it.
"""

import asyncio
import hashlib
from collections.abc import Iterable
from typing import Any

from spindle_common.contracts import Artifact
from spindle_common.spill import Bytes
from spindle_worker import metrics

_READ_SECONDS = 3600  # patience ends before
_FRESH_SECONDS = 300.0


class Files:
    """Artifacts of one attempt; what it wrote itself is read back from memory."""

    def __init__(self, store: Bytes) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._written: dict[str, bytes] = {}
        self._named: dict[str, Artifact] = {}
        self._begun: dict[str, float] = {}
        self._uploads: dict[str, asyncio.Future[Any]] = {}

    def read(self, artifact: Artifact) -> bytes:
        """Return the bytes; blocks the calling thread, which must not be the event loop's."""
        if artifact.digest in self._written:
            return self._written[artifact.digest]
        reading = asyncio.run_coroutine_threadsafe(self._store.read(artifact.digest), self._loop)
        data = reading.result(_READ_SECONDS)
        metrics.artifact_bytes.labels("read").inc(len(data))
        return data

    def write(self, data: bytes, media_type: str) -> Artifact:
        """Name the bytes and begin their upload; callable from any thread."""
        artifact = Artifact(digest="sha256:" + hashlib.sha256(data).hexdigest(), media_type=media_type, size=len(data))
        if artifact.digest not in self._written:
            self._written[artifact.digest] = data
            self._loop.call_soon_threadsafe(self._upload, artifact)
        return artifact

    def keep(self, artifact: Artifact, data: bytes) -> None:
        """Begin the upload of bytes that were named elsewhere; on the event loop only."""
        if artifact.digest not in self._written:
            self._written[artifact.digest] = data
            self._upload(artifact)

    def _upload(self, artifact: Artifact) -> None:
        put = self._store.put(self._written[artifact.digest], artifact.media_type)
        self._named[artifact.digest], self._begun[artifact.digest] = artifact, self._loop.time()
        self._uploads[artifact.digest] = asyncio.ensure_future(put)
        metrics.artifact_bytes.labels("written").inc(artifact.size)

    async def settle(self) -> None:
        """Wait for every upload begun so far: only then may a commit name them. Raises StoreUnavailable."""
        await asyncio.sleep(0)  # a write from a thread reaches the loop one turn later
        if self._uploads:
            await asyncio.gather(*self._uploads.values())
        long_ago = self._loop.time() - _FRESH_SECONDS
        await self._put_again([digest for digest, begun in self._begun.items() if begun < long_ago])

    async def renew(self, texts: Iterable[str]) -> None:
        """Put again what was written here and these outcomes name: it was being deleted. Raises Unavailable."""
        named = " ".join(texts)
        await self._put_again([digest for digest in self._written if digest in named])

    async def _put_again(self, digests: list[str]) -> None:
        for digest in digests:
            self._upload(self._named[digest])
        await asyncio.gather(*(self._uploads[digest] for digest in digests))
