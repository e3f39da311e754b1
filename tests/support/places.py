"""What the tests of the artifact stores share: both places, looked at and harmed from outside."""

import hashlib
import io
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from minio import Minio
from pydantic import SecretStr

from spindle_common.artifacts import ArtifactStore, open_store
from support.radosgw import S3Server

PICTURE = bytes(range(256)) * 6000  # 1.5 MB: several blocks, the last one partial
SIZE = len(PICTURE)
ABSENT = "sha256:" + "0" * 64


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


async def pieces(data: bytes, size: int = 60_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


class Place(Protocol):
    """Where one kind of store keeps things, looked at and harmed from outside."""

    store: ArtifactStore

    def arguments(self) -> tuple[Path, str | None]: ...
    def everything(self) -> set[str]: ...
    def spoil(self, digest: str, data: bytes) -> None: ...
    def age(self, digest: str) -> None: ...
    def leave_upload(self) -> None: ...


class Folder:
    def __init__(self, root: Path) -> None:
        self.data_dir = root
        self.root = root / "artifacts"
        self.store: ArtifactStore = open_store(root)

    def arguments(self) -> tuple[Path, str | None]:
        return self.data_dir, None

    def everything(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}

    def spoil(self, digest: str, data: bytes) -> None:
        self.path(digest).write_bytes(data)

    def age(self, digest: str) -> None:
        long_ago = time.time() - 7200
        os.utime(self.path(digest), (long_ago, long_ago))

    def leave_upload(self) -> None:
        """As a process does that is killed in the middle of one."""
        (self.root / "tmp").mkdir(parents=True)
        (self.root / "tmp" / "0123456789ab").write_bytes(b"half")

    def path(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self.root / "sha256" / name[:2] / name


class Bucket:
    def __init__(self, server: S3Server, bucket: str) -> None:
        self.url, self.bucket = server.url(bucket), bucket
        self.client = Minio(server.endpoint, server.access_key, server.secret_key, secure=False)
        self.store: ArtifactStore = open_store(Path("unused"), SecretStr(self.url))

    def arguments(self) -> tuple[Path, str | None]:
        return Path("unused"), self.url

    def everything(self) -> set[str]:
        if not self.client.bucket_exists(self.bucket):
            return set()
        uploads = self.client._list_multipart_uploads(self.bucket).uploads
        kept = {str(item.object_name) for item in self.client.list_objects(self.bucket, recursive=True)}
        return kept | {f"unfinished {upload.object_name}" for upload in uploads}

    def spoil(self, digest: str, data: bytes) -> None:
        name = digest.removeprefix("sha256:")
        self.client.put_object(self.bucket, f"sha256/{name[:2]}/{name}", io.BytesIO(data), len(data))

    def leave_upload(self) -> None:
        """As a process does that is killed in the middle of one."""
        self.client.make_bucket(self.bucket)
        key = f"sha256/00/{'0' * 64}"
        self.client._create_multipart_upload(self.bucket, key, {"Content-Type": "image/png"})

    def age(self, digest: str) -> None:
        """Nobody can set Last-Modified; the tests that need an old object shorten the hour instead."""


async def read_stream(store: ArtifactStore, digest: str, start: int = 0, length: int | None = None) -> bytes:
    return b"".join([block async for block in store.stream(digest, start, length)])
