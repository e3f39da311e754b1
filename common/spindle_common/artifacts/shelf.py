"""The shelf of an object store: small objects under names of one's own, beside the artifacts and apart from them.

What stands on a shelf may be overwritten, and lost without harm: whoever misses it makes it anew. So nothing is
synced to disk; a name that a power cut has spoilt holds bytes that its reader does not understand.
"""

import os
import re
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

_NAME = re.compile(r"[a-z0-9_][a-z0-9_.@-]*(/[a-z0-9_][a-z0-9_.@-]*)*")


class Shelved(NamedTuple):
    """One object in a listing."""

    name: str
    size: int
    modified: datetime


class Shelf(Protocol):
    """Keeps small objects; every implementation passes `tests/contract/test_artifact_shelf.py`.

    A name is like a path, of lower-case letters, digits and `_.@-`. Everything may raise StoreUnavailable.
    """

    async def shelve(self, name: str, data: bytes) -> None:
        """Put it there, in place of what was."""
        ...

    async def shelved(self, name: str) -> bytes | None:
        """Return what is there."""
        ...

    def on_shelf(self, prefix: str, older_than: datetime | None = None) -> AsyncIterator[Shelved]:
        """Yield all whose names begin so, or those last written before that time, in no order."""
        ...

    async def unshelve(self, name: str) -> None:
        """Take it away; it need not be there."""
        ...


def checked(name: str) -> str:
    """Return the name. Raises ValueError for one that is none."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:80]!r} is no name for a shelf")
    return name


def write(root: Path, name: str, data: bytes) -> None:
    """Write a file of that name below a folder, whole or not at all for whoever reads it meanwhile."""
    path, draft = root / "shelf" / checked(name), root / "tmp" / secrets.token_hex(12)
    try:
        _place(path, draft, data)
    except FileNotFoundError:  # the first of its kind
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.parent.mkdir(parents=True, exist_ok=True)
        _place(path, draft, data)


def _place(path: Path, draft: Path, data: bytes) -> None:
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def there(root: Path, name: str) -> bool:
    """Whether there is a file of that name."""
    return (root / "shelf" / checked(name)).exists()


def read(root: Path, name: str) -> bytes | None:
    """Read the file of that name."""
    try:
        return (root / "shelf" / checked(name)).read_bytes()
    except FileNotFoundError:
        return None


def remove(root: Path, name: str) -> None:
    """Remove the file of that name."""
    (root / "shelf" / checked(name)).unlink(missing_ok=True)


def listing(root: Path, prefix: str, older_than: datetime | None) -> list[Shelved]:
    """List the files whose names begin so."""
    shelf = root / "shelf"
    above = shelf / prefix.rpartition("/")[0]
    found = []
    for folder, _, files in os.walk(above):
        for file in files:
            path = Path(folder) / file
            name = path.relative_to(shelf).as_posix()
            if name.startswith(prefix) and (shelved := _look(path, name)):
                found.append(shelved)
    return [each for each in found if older_than is None or each.modified < older_than]


def _look(path: Path, name: str) -> Shelved | None:
    try:
        about = path.stat()
    except FileNotFoundError:  # taken away meanwhile
        return None
    return Shelved(name, about.st_size, datetime.fromtimestamp(about.st_mtime, UTC))
