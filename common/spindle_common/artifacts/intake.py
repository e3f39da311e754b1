"""Bytes on their way into a store: gathered into blocks, then counted, hashed and written away from the event loop.

At most one block and one piece of the source are in memory, however long the stream is.
"""

import hashlib
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Protocol

from spindle_common.problems import TooLarge

GATHERED = 1024 * 1024  # bytes collected before a thread writes them: one hop a MiB, not one a network packet


class Sink(Protocol):
    """What takes blocks: a draft, a temporary file."""

    def write(self, block: bytes, /) -> object:
        """Take the whole block."""
        ...


class Intake:
    """Counts and hashes what it writes to a sink; `digest` and `size` are those of all bytes taken."""

    def __init__(self, sink: Sink, limit: int | None) -> None:
        self._sink = sink
        self._limit = limit
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """The digest of what was taken so far."""
        return "sha256:" + self._hash.hexdigest()

    async def take(
        self, data: bytes | AsyncIterable[bytes], call: Callable[[Callable[[bytes], None], bytes], Awaitable[None]]
    ) -> None:
        """Take everything; `call` runs a function in a thread. Raises TooLarge, and what `data` raises."""
        if isinstance(data, bytes):
            self._count(data)
            await call(self._write, data)
            return
        block = bytearray()
        async for piece in data:
            self._count(piece)
            block += piece
            if len(block) >= GATHERED:
                await call(self._write, bytes(block))
                block.clear()
        await call(self._write, bytes(block))

    def _count(self, piece: bytes) -> None:
        self.size += len(piece)
        if self._limit is not None and self.size > self._limit:
            raise TooLarge(f"At most {self._limit} bytes are taken here.")

    def _write(self, block: bytes) -> None:
        self._hash.update(block)
        self._sink.write(block)
