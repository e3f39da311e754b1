"""The embedded artifact store: a content-addressed folder that several processes share without any lock.

    sha256/ab/abcd…         the bytes
    sha256/ab/abcd….json    {"media_type": …, "size": …}
    shelf/…                 see `shelf`
    tmp/                    drafts; those of dead processes are swept away after an hour

A put writes both files as drafts, syncs them, and renames first the description, then the bytes: an artifact exists
when its bytes do. Renaming is atomic and every writer of a name brings the same bytes, so concurrent puts cannot harm
each other. Then the folder is synced: what was returned survives a power cut. `modified` is the bytes' mtime.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, TypeVar

from spindle_common.artifacts import shelf
from spindle_common.artifacts.intake import Intake
from spindle_common.artifacts.shelf import Shelved
from spindle_common.artifacts.store import (
    BLOCK,
    Announce,
    ArtifactNotFound,
    Stored,
    StoreUnavailable,
    Upload,
    artifact,
    check_media_type,
    corrupt,
    extent,
    hex_of,
    proven,
)
from spindle_common.artifacts.threads import Threads

P = ParamSpec("P")
T = TypeVar("T")

UNKNOWN = "application/octet-stream"  # a description lost to a crash or a delete that raced a put
shard_pattern = re.compile(r"[0-9a-f]{2}")
name_pattern = re.compile(r"[0-9a-f]{64}")
STALE = 3600.0  # seconds without a write after which a draft's process is taken for dead


class DirectoryStore:
    """Artifacts in a folder; see the module for its layout and `ArtifactStore` for the methods."""

    def __init__(self, root: Path, *, announce: Announce | None = None, threads: int = 4) -> None:
        self._root, self._announce = root, announce
        self._threads = Threads("artifacts", threads)

    async def put(
        self, data: bytes | AsyncIterable[bytes], media_type: str, *, limit: int | None = None
    ) -> dict[str, Any]:
        """Write a draft while hashing it, then publish it, or touch what is there already."""
        check_media_type(media_type)
        draft = Draft(self._root / "tmp")
        try:
            intake = Intake(draft, limit)
            await intake.take(data, self._call)
            found = artifact(intake.digest, media_type, intake.size)
            path = self._path(intake.digest)
            if self._announce:
                await self._announce(intake.digest)
            if not await self._call(draft.touches, path, found):
                await self._settle(draft, found)
                await self._call(draft.publish, path)
        finally:
            await self._call(draft.discard)
        return found

    async def head(self, digest: str) -> dict[str, Any]:
        """Return the artifact as its description tells it, after a look at the bytes' length."""
        return await self._call(_head, self._path(digest), digest)

    async def read(self, digest: str) -> bytes:
        """Return all bytes, proven."""
        return await self._call(_read, self._path(digest), digest)

    async def stream(self, digest: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield a part; a reader keeps its open file even when the artifact is deleted meanwhile."""
        extent(0, start, length)
        file, size = await self._call(_open, self._path(digest), digest, start)
        left = extent(size, start, length)

        async def pull(count: int, feed: Callable[[bytes], object]) -> bytes:
            return await self._call(_pull, file, count, feed)

        with file:
            async with contextlib.aclosing(proven(digest, left, left == size, pull)) as blocks:
                async for block in blocks:
                    yield block

    async def stat(self, digest: str) -> Stored:
        """Look at the files."""
        return await self._call(_stat, self._path(digest), digest)

    async def touch(self, digest: str) -> None:
        """Set the bytes' mtime."""
        await self._call(_touch, self._path(digest), digest)

    async def delete(self, digest: str) -> None:
        """Remove the bytes, which ends the artifact, then the description."""
        await self._call(_delete, self._path(digest))

    async def list(self, older_than: datetime | None = None) -> AsyncIterator[Stored]:
        """Yield what is there, one shard of the folder at a time."""
        for shard in await self._call(_folders, self._root / "sha256"):
            for stored in await self._call(_shard, shard, older_than):
                yield stored

    async def uploads(self, older_than: datetime) -> AsyncIterator[Upload]:
        """Yield drafts, and descriptions whose bytes never came or were deleted before them."""
        for folder in (self._root / "tmp", *await self._call(_folders, self._root / "sha256")):
            for upload in await self._call(_left, self._root, folder, older_than):
                yield upload

    async def abandon(self, upload: Upload) -> None:
        """Remove the file."""
        await self._call((self._root / upload.id).unlink, missing_ok=True)

    async def shelve(self, name: str, data: bytes) -> None:
        """Write a file."""
        await self._call(shelf.write, self._root, name, data)

    async def shelved(self, name: str) -> bytes | None:
        """Read it; to know that it is not there takes no thread, whose waking costs thirty times as much."""
        with _mapped():
            if not shelf.there(self._root, name):
                return None
            return await self._threads.call(shelf.read, self._root, name)

    async def on_shelf(self, prefix: str, older_than: datetime | None = None) -> AsyncIterator[Shelved]:
        """Yield what is there."""
        for each in await self._call(shelf.listing, self._root, prefix, older_than):
            yield each

    async def unshelve(self, name: str) -> None:
        """Remove it."""
        await self._call(shelf.remove, self._root, name)

    async def check(self) -> None:
        """Make the folder, prove that it takes a byte, and sweep away the drafts of dead processes."""
        await self._call(_check, self._root)

    async def close(self) -> None:
        """End the threads."""
        self._threads.close()

    async def _settle(self, draft: "Draft", found: dict[str, Any]) -> None:
        """Have both files on disk, at once: a file system's journal writes them in one go (9 ms, one by one 16)."""
        both = (self._call(draft.sync), self._call(draft.describe, found))
        for failure in await asyncio.gather(*both, return_exceptions=True):
            if failure:
                raise failure

    def _path(self, digest: str) -> Path:
        name = hex_of(digest)
        return self._root / "sha256" / name[:2] / name

    async def _call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run in a thread, to its end."""
        with _mapped():
            return await self._threads.finish(function, *args, **kwargs)


@contextlib.contextmanager
def _mapped() -> Iterator[None]:
    """The seam where the operating system's errors become ours."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"The artifact folder cannot be used: {error.strerror}.", retry_after=5) from error


class Draft:
    """An artifact nobody sees yet: a file for the bytes, and in the end one for the description."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / secrets.token_hex(12)
        self._meta = self._data.with_suffix(".json")
        self._file: BinaryIO | None = None

    def write(self, block: bytes) -> None:
        """Append the block."""
        if self._file is None:
            self._file = _create(self._data)
        self._file.write(block)

    def touches(self, path: Path, found: dict[str, Any]) -> bool:
        """Touch the artifact if it is there, sound and of this media type; else the draft is to be published.

        The bytes are compared, not only counted: so a put mends what a failing disk has spoiled.
        """
        if self._file is None or _told(path) != (found["media_type"], found["size"]):
            return False
        self._file.seek(0)
        try:
            with path.open("rb") as there:
                if not _same(self._file, there):
                    return False
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def sync(self) -> None:
        """Have the bytes on disk."""
        if self._file:
            self._file.flush()
            os.fsync(self._file.fileno())

    def describe(self, found: dict[str, Any]) -> None:
        """Have the description on disk."""
        with _create(self._meta) as file:
            file.write(json.dumps({"media_type": found["media_type"], "size": found["size"]}).encode())
            file.flush()
            os.fsync(file.fileno())

    def publish(self, path: Path) -> None:
        """Give both files their names, the bytes last, and have that on disk."""
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True, exist_ok=True)
            _sync_folder(path.parent.parent)
        self._meta.replace(_description(path))
        self._data.replace(path)
        _sync_folder(path.parent)

    def discard(self) -> None:
        """Remove what was not published."""
        if self._file:
            with contextlib.suppress(OSError):  # a full disk fails here again; it has been told
                self._file.close()
        self._data.unlink(missing_ok=True)
        self._meta.unlink(missing_ok=True)


def _create(path: Path) -> BinaryIO:
    try:
        return path.open("x+b")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("x+b")


def _description(path: Path) -> Path:
    return path.with_suffix(".json")


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _same(one: BinaryIO, other: BinaryIO) -> bool:
    while True:
        block = one.read(BLOCK)
        if block != other.read(BLOCK):
            return False
        if not block:
            return True


def _told(path: Path) -> tuple[str, int | None]:
    """Return media type and size as the description tells them; of a lost one, that they are unknown."""
    try:
        told = json.loads(_description(path).read_bytes())
        return str(told["media_type"]), int(told["size"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return UNKNOWN, None


def _head(path: Path, digest: str) -> dict[str, Any]:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise ArtifactNotFound(f"There is no artifact {digest}.") from None
    media_type, told = _told(path)
    if told not in (None, size):
        raise corrupt(digest)
    return artifact(digest, media_type, size)


def _read(path: Path, digest: str) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ArtifactNotFound(f"There is no artifact {digest}.") from None
    if hashlib.sha256(data).hexdigest() != hex_of(digest):
        raise corrupt(digest)
    return data


def _open(path: Path, digest: str, start: int) -> tuple[BinaryIO, int]:
    size = int(_head(path, digest)["size"])
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise ArtifactNotFound(f"There is no artifact {digest}.") from None
    file.seek(start)
    return file, size


def _pull(file: BinaryIO, count: int, feed: Callable[[bytes], object]) -> bytes:
    block = file.read(count)
    feed(block)
    return block


def _delete(path: Path) -> None:
    path.unlink(missing_ok=True)
    _description(path).unlink(missing_ok=True)


def _folders(path: Path) -> list[Path]:
    try:
        return [shard for shard in path.iterdir() if shard_pattern.fullmatch(shard.name)]
    except FileNotFoundError:
        return []


def _shard(folder: Path, older_than: datetime | None) -> list[Stored]:
    names = (path for path in folder.iterdir() if name_pattern.fullmatch(path.name))
    return [stored for path in names for stored in _stored(path, older_than)]


def _stored(path: Path, older_than: datetime | None = None) -> Iterator[Stored]:
    with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
        about = path.stat()
        modified = datetime.fromtimestamp(about.st_mtime, UTC)
        if older_than is None or modified < older_than:
            yield Stored("sha256:" + path.name, _told(path)[0], about.st_size, modified)


def _stat(path: Path, digest: str) -> Stored:
    for stored in _stored(path):
        return stored
    raise ArtifactNotFound(f"There is no artifact {digest}.")


def _touch(path: Path, digest: str) -> None:
    try:
        os.utime(path)
    except FileNotFoundError:
        raise ArtifactNotFound(f"There is no artifact {digest}.") from None


def _left(root: Path, folder: Path, older_than: datetime) -> list[Upload]:
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        if folder.name != "tmp" and (path.suffix != ".json" or path.with_suffix("").exists()):
            continue
        with contextlib.suppress(FileNotFoundError):  # published, or swept by another process
            about = path.stat()
            modified = datetime.fromtimestamp(about.st_mtime, UTC)
            if modified < older_than:
                found.append(Upload(str(path.relative_to(root)), about.st_size, modified))
    return found


def _check(root: Path) -> None:
    (root / "sha256").mkdir(parents=True, exist_ok=True)
    probe = Draft(root / "tmp")
    try:
        probe.write(b"?")
        probe.sync()
    finally:
        probe.discard()
    for path in (root / "tmp").iterdir():
        with contextlib.suppress(FileNotFoundError):  # published or swept by another process
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink()
