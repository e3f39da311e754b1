"""What an artifact store is: bytes kept under their own SHA-256, with a media type beside them.

The way of bytes in: hashed and counted as they come, kept in a draft that nobody sees, then published in one step.
So whatever has a digest is whole; an upload that breaks off leaves nothing. The way out: `stream` hands out blocks,
and the last one only after the bytes have proved to be those that the digest names.

    NotFound
      ArtifactNotFound 404   nothing is kept under this digest
    InvalidRequest
      InvalidDigest 400      not of the form sha256:<64 hex digits>
    Unavailable
      StoreUnavailable 503   the store is away, slow or full; try again
        StoreRefused         the store refuses our credentials; trying again will not help
        ArtifactCorrupt      the store gave bytes that are not those of the digest

Putting the same bytes again changes nothing but two things: `modified` moves on, so that a collector of what is long
untouched spares it, and the media type becomes the one given last. A store that was given an `announce` awaits it with
the digest before it publishes or touches anything: so whoever deletes can be told first (`spindle_common.garbage`).
"""

import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from spindle_common.problems import InvalidRequest, NotFound, Unavailable, UnsupportedMediaType

BLOCK = 256 * 1024  # bytes read at a time: large enough to hide a thread's hop, small enough for many readers

Announce = Callable[[str], Awaitable[None]]

type_pattern = re.compile(r"[a-z]+/[A-Za-z0-9][A-Za-z0-9.+_-]*")
digest_pattern = re.compile(r"sha256:([0-9a-f]{64})")


class ArtifactNotFound(NotFound):
    """Nothing is kept under this digest."""

    code, title = "artifact-not-found", "There is no such artifact"


class InvalidDigest(InvalidRequest):
    """The text is no digest of ours."""

    code, title = "invalid-digest", "This is not a digest"


class StoreUnavailable(Unavailable):
    """The object store is away, slow or full."""

    code, title = "store-unavailable", "The object store is away"


class StoreRefused(StoreUnavailable):
    """The object store refuses what our configuration says; someone has to mend that first."""

    code, title, retryable = "store-refused", "The object store refuses our credentials", False


class ArtifactCorrupt(StoreUnavailable):
    """The store holds, or sent, bytes that are not those of the digest."""

    code, title = "artifact-corrupt", "The object store gave bytes that are not those of the digest"


@dataclass(frozen=True, slots=True)
class Stored:
    """One artifact in a listing; `media_type` is None where telling it would take a request of its own."""

    digest: str
    media_type: str | None
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that has not become an artifact: under way, or left by a dead process. Its store knows its `id`."""

    id: str
    size: int | None
    modified: datetime


class ArtifactStore(Protocol):
    """Keeps artifacts; every implementation passes `tests/contract/test_artifact_store.py`.

    An artifact is the dict of `artifact.schema.json`: digest, media_type, size in bytes.
    Everything may raise StoreUnavailable, and whatever takes a digest InvalidDigest.
    """

    async def put(
        self, data: bytes | AsyncIterable[bytes], media_type: str, *, limit: int | None = None
    ) -> dict[str, Any]:
        """Keep the bytes, durably, and return their artifact.

        Raises TooLarge when there are more than `limit` bytes, and what the source of the bytes or the announcement
        raises; all leave nothing behind.
        """
        ...

    async def head(self, digest: str) -> dict[str, Any]:
        """Return the artifact. Raises ArtifactNotFound."""
        ...

    async def read(self, digest: str) -> bytes:
        """Return all bytes. Raises ArtifactNotFound, ArtifactCorrupt."""
        ...

    def stream(self, digest: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield `length` bytes from `start` in blocks; what lies beyond the end is left out, as in a slice.

        Raises ArtifactNotFound before the first block, ArtifactCorrupt instead of the last one. A part of an artifact
        is checked for its length only.
        """
        ...

    async def stat(self, digest: str) -> Stored:
        """Return what a listing would tell of it. Raises ArtifactNotFound."""
        ...

    async def touch(self, digest: str) -> None:
        """Move `modified` on, as a put of the same bytes does. Raises ArtifactNotFound."""
        ...

    async def delete(self, digest: str) -> None:
        """Forget the artifact; it need not exist."""
        ...

    def list(self, older_than: datetime | None = None) -> AsyncIterator[Stored]:
        """Yield all artifacts, or those last modified before that time, in no order.

        One put or deleted meanwhile may be left out.
        """
        ...

    def uploads(self, older_than: datetime) -> AsyncIterator[Upload]:
        """Yield uploads that have not ended and were last modified before that time."""
        ...

    async def abandon(self, upload: Upload) -> None:
        """Throw away what an upload has left; it need not exist any more."""
        ...

    async def check(self) -> None:
        """Make the store ready where that is possible. Raises StoreUnavailable where artifacts cannot be kept."""
        ...

    async def close(self) -> None:
        """Let go of threads and connections."""
        ...


def hex_of(digest: str) -> str:
    """Return the 64 hex digits of a digest: all that may become part of a path or key. Raises InvalidDigest."""
    found = digest_pattern.fullmatch(digest)
    if not found:
        raise InvalidDigest(f"A digest is 'sha256:' and 64 lower-case hex digits, not {digest[:80]!r}.")
    return found[1]


def artifact(digest: str, media_type: str, size: int) -> dict[str, Any]:
    """Build an artifact."""
    return {"digest": digest, "media_type": media_type, "size": size}


def check_media_type(media_type: str) -> None:
    """Raise UnsupportedMediaType unless the text is a bare media type, without parameters."""
    if len(media_type) > 127 or not type_pattern.fullmatch(media_type):
        raise UnsupportedMediaType(f"A media type looks like 'image/png', not {media_type[:80]!r}.")


def extent(size: int, start: int, length: int | None) -> int:
    """Return how many bytes a read from `start` gives. Raises ValueError for a range that counts backwards."""
    if start < 0 or (length is not None and length < 0):
        raise ValueError(f"a range starts at 0 or later and is not negative: {start}, {length}")
    left = max(0, size - start)
    return left if length is None else min(left, length)


def corrupt(digest: str) -> ArtifactCorrupt:
    """Build the error for bytes that are not those of the digest."""
    return ArtifactCorrupt(f"What is kept as {digest} does not have that digest.")


async def proven(
    digest: str, left: int, whole: bool, pull: Callable[[int, Callable[[bytes], object]], Awaitable[bytes]]
) -> AsyncGenerator[bytes, None]:
    """Yield `left` bytes block by block, the last only when the digest fits (if the artifact is read whole).

    `pull(n, feed)` returns up to n bytes, having fed them to the hash where it ran, off the event loop.
    Raises ArtifactCorrupt, also when the bytes end early.
    """
    proof = hashlib.sha256()
    if whole and not left and proof.hexdigest() != hex_of(digest):
        raise corrupt(digest)
    while left > 0:
        block = await pull(min(BLOCK, left), proof.update)
        left -= len(block)
        if not block or (whole and not left and proof.hexdigest() != hex_of(digest)):
            raise corrupt(digest)
        yield block
