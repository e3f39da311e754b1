"""Where bytes are kept: one interface, `ArtifactStore`, and two implementations, a folder and an S3 bucket."""

from pathlib import Path
from typing import Protocol

from pydantic import SecretStr

from spindle_common.artifacts.directory import DirectoryStore
from spindle_common.artifacts.shelf import Shelf, Shelved
from spindle_common.artifacts.store import (
    Announce,
    ArtifactCorrupt,
    ArtifactNotFound,
    ArtifactStore,
    InvalidDigest,
    Stored,
    StoreRefused,
    StoreUnavailable,
    Upload,
)

__all__ = [
    "Announce",
    "ArtifactCorrupt",
    "ArtifactNotFound",
    "ArtifactStore",
    "InvalidDigest",
    "ObjectStore",
    "Shelf",
    "Shelved",
    "StoreRefused",
    "StoreUnavailable",
    "Stored",
    "Upload",
    "open_store",
]


class ObjectStore(ArtifactStore, Shelf, Protocol):
    """Artifacts, and beside them a shelf."""


def open_store(data_dir: Path, s3_url: SecretStr | str | None = None, announce: Announce | None = None) -> ObjectStore:
    """Return the store that the settings name, without touching disk or network; `check` does that.

    `announce` is awaited with a digest before its bytes are published or touched.

    Raises ValueError for an S3 URL that cannot be read.
    """
    if not s3_url:
        return DirectoryStore(data_dir / "artifacts", announce=announce)
    # The SDK takes 0.35 s to import: only when it is needed.
    from spindle_common.artifacts.s3 import S3Place, S3Store

    place = S3Place.parse(s3_url.get_secret_value() if isinstance(s3_url, SecretStr) else s3_url)
    return S3Store(place, announce=announce)
