"""Artifacts in a bucket of any S3 server (MinIO, Ceph, AWS …), through the `minio` SDK.

    key    sha256/ab/abcd…, the bytes as one object; its Content-Type is the media type
    key    shelf/…, see `shelf`

The key is the digest, so an upload begins once all bytes are known: what comes as a stream waits in a temporary file.
A PUT is atomic by the protocol (a multipart one when it is completed), so a torn upload shows nothing, and two
uploads of the same key bring the same bytes: no conditional write is needed, which some servers would ignore anyway.
Before an upload the store asks whether the object is there. If it is, has its size and media type, and is younger
than an hour, the upload is left out; an older one is uploaded again, because that alone moves Last-Modified on, and
garbage collection takes only what is untouched for a day. The hour spares nearly all repeated uploads, and the other
twenty-three leave room for clocks that differ. (Copying the object onto itself would save the bytes' way, but servers
differ in what they demand for that; only `touch`, which has no bytes, does it.)

The SDK blocks, so it runs in a few threads with timeouts and retries of its own: a dead server costs at most
(retries + 1) * (connect + read seconds) before StoreUnavailable, 40 s as things are; a closed port less than one.
"""

import contextlib
import hashlib
import io
import re
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, BinaryIO, ParamSpec, TypeVar, cast
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree.ElementTree import ParseError

import urllib3
from minio import Minio
from minio.commonconfig import REPLACE, CopySource
from minio.datatypes import ListMultipartUploadsResult
from minio.error import MinioException, S3Error

from spindle_common.artifacts.intake import Intake
from spindle_common.artifacts.patience import Patience
from spindle_common.artifacts.shelf import Shelved, checked
from spindle_common.artifacts.store import (
    Announce,
    ArtifactNotFound,
    Stored,
    StoreRefused,
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
from spindle_common.problems import SpindleError

P = ParamSpec("P")
T = TypeVar("T")

_SHELF = "shelf/"
FRESH = timedelta(hours=1)  # an object younger than this need not be touched
IN_MEMORY = 4 * 1024 * 1024  # bytes of a stream kept in memory before they go to a temporary file
PART = 16 * 1024 * 1024  # bytes of one part of a multipart upload; one is in memory at a time
PAGE = 1000  # objects a listing asks for at a time

MISSING = {"NoSuchKey", "NoSuchBucket", "NoSuchObject", "NoSuchUpload"}
OURS = {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}  # another process was quicker
REFUSED = {
    "AccessDenied",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
FOREIGN = (MinioException, urllib3.exceptions.HTTPError, OSError, ParseError, UnicodeDecodeError)

key_pattern = re.compile(r"sha256/[0-9a-f]{2}/([0-9a-f]{64})")
bucket_pattern = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True, repr=False)
class S3Place:
    """Where a bucket is and with which credentials; never printed."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str
    secure: bool
    region: str | None

    @classmethod
    def parse(cls, url: str) -> "S3Place":
        """Read `http(s)://KEY:SECRET@host[:port]/bucket[?region=…]`, KEY and SECRET percent-encoded.

        Raises ValueError, which says what is wrong without repeating the secret.
        """
        parts = urlsplit(url)
        bucket = parts.path.strip("/")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("an S3 URL looks like http://KEY:SECRET@host:9000/bucket, or https://…")
        if not parts.username or not parts.password:
            raise ValueError("the S3 URL lacks KEY:SECRET@ before the host (percent-encode '/', '@' and ':' in them)")
        if not bucket_pattern.fullmatch(bucket):
            raise ValueError(f"the S3 URL must end in one bucket's name, not {bucket!r}")
        return cls(
            endpoint=parts.netloc.rpartition("@")[2],
            bucket=bucket,
            access_key=unquote(parts.username),
            secret_key=unquote(parts.password),
            secure=parts.scheme == "https",
            region=parse_qs(parts.query).get("region", [None])[0],
        )


class S3Store:
    """Artifacts in a bucket; see the module for how, and `ArtifactStore` for the methods."""

    def __init__(self, place: S3Place, *, announce: Announce | None = None, patience: Patience | None = None) -> None:
        patience = patience or Patience()
        self._announce = announce
        self._bucket = place.bucket
        self._http = patience.pool(place.secure)
        self._threads = Threads("s3", patience.threads)
        self._client = Minio(
            place.endpoint,
            access_key=place.access_key,
            secret_key=place.secret_key,
            secure=place.secure,
            region=place.region,
            http_client=self._http,
        )

    async def put(
        self, data: bytes | AsyncIterable[bytes], media_type: str, *, limit: int | None = None
    ) -> dict[str, Any]:
        """Take all bytes in, then upload them unless the bucket has them."""
        check_media_type(media_type)
        with _sink(data) as sink:
            intake = Intake(sink, limit)
            await intake.take(data, self._spool)
            found = artifact(intake.digest, media_type, intake.size)
            if self._announce:
                await self._announce(intake.digest)
            await self._call(None, self._upload, sink, found)
        return found

    async def head(self, digest: str) -> dict[str, Any]:
        """Return the artifact as the object's headers tell it."""
        about = await self._call(digest, self._client.stat_object, self._bucket, _key(digest))
        return artifact(digest, about.content_type or "application/octet-stream", about.size or 0)

    async def read(self, digest: str) -> bytes:
        """Return all bytes, proven."""
        return await self._call(digest, self._download, digest)

    async def stream(self, digest: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield a part; a partial read asks for the size first, so that a server's wrong answer shows."""
        extent(0, start, length)
        size = None if (start, length) == (0, None) else int((await self.head(digest))["size"])
        left = None if size is None else extent(size, start, length)
        if left == 0:
            return
        body = await self._call(digest, self._open, _key(digest), start, left)
        whole = left in (None, size)
        expected = int(body.headers.get("Content-Length", -1))

        async def pull(count: int, feed: Callable[[bytes], object]) -> bytes:
            return await self._call(digest, _pull, body, count, feed)

        with contextlib.closing(body):
            if expected < 0 or left not in (None, expected):
                raise corrupt(digest)
            async with contextlib.aclosing(proven(digest, expected, whole, pull)) as blocks:
                async for block in blocks:
                    yield block

    async def stat(self, digest: str) -> Stored:
        """Look at the object's headers."""
        about = await self._call(digest, self._client.stat_object, self._bucket, _key(digest))
        return Stored(digest, about.content_type, about.size or 0, about.last_modified or datetime.now(UTC))

    async def touch(self, digest: str) -> None:
        """Copy the object onto itself, which a server does only if something about it changes: its headers do."""
        await self._call(digest, self._copy, _key(digest))

    async def delete(self, digest: str) -> None:
        """Remove the object; the protocol itself does not mind if there is none."""
        with contextlib.suppress(ArtifactNotFound):  # no bucket yet
            await self._call(digest, self._client.remove_object, self._bucket, _key(digest))

    async def list(self, older_than: datetime | None = None) -> AsyncIterator[Stored]:
        """Yield what is there, a page at a time; media types are not told, that would be a request each."""
        objects = self._client.list_objects(self._bucket, prefix="sha256/", recursive=True)
        try:
            while page := await self._call("", lambda: [*islice(objects, PAGE)]):
                for item in page:
                    if found := key_pattern.fullmatch(item.object_name or ""):
                        modified = item.last_modified or datetime.now(UTC)
                        if older_than is None or modified < older_than:
                            yield Stored("sha256:" + found[1], None, item.size or 0, modified)
        except ArtifactNotFound:  # no bucket yet
            return

    async def uploads(self, older_than: datetime) -> AsyncIterator[Upload]:
        """Yield multipart uploads that were neither completed nor ended; S3 does not tell their sizes."""
        key = mark = None
        try:
            while True:
                page = await self._call("", self._unfinished, key, mark)
                for each in page.uploads:
                    if each.upload_id and each.initiated_time and each.initiated_time < older_than:
                        yield Upload(f"{each.object_name} {each.upload_id}", None, each.initiated_time)
                key, mark = page.next_key_marker, page.next_upload_id_marker
                if not page.is_truncated:
                    return
        except ArtifactNotFound:  # no bucket yet
            return

    async def abandon(self, upload: Upload) -> None:
        """End the multipart upload; its parts go."""
        key, _, name = upload.id.partition(" ")
        with contextlib.suppress(ArtifactNotFound):
            await self._call(upload.id, self._client._abort_multipart_upload, self._bucket, key, name)

    async def shelve(self, name: str, data: bytes) -> None:
        """Put an object."""
        await self._call(None, self._put_away, _SHELF + checked(name), data)

    async def shelved(self, name: str) -> bytes | None:
        """Get it."""
        try:
            return await self._call(name, self._fetch, _SHELF + checked(name))
        except ArtifactNotFound:
            return None

    async def on_shelf(self, prefix: str, older_than: datetime | None = None) -> AsyncIterator[Shelved]:
        """Yield what is there, a page at a time."""
        objects = self._client.list_objects(self._bucket, prefix=_SHELF + prefix, recursive=True)
        try:
            while page := await self._call("", lambda: [*islice(objects, PAGE)]):
                for item in page:
                    modified = item.last_modified or datetime.now(UTC)
                    if item.object_name and (older_than is None or modified < older_than):
                        yield Shelved(item.object_name.removeprefix(_SHELF), item.size or 0, modified)
        except ArtifactNotFound:  # no bucket yet
            return

    async def unshelve(self, name: str) -> None:
        """Remove it."""
        with contextlib.suppress(ArtifactNotFound):  # no bucket yet
            await self._call(name, self._client.remove_object, self._bucket, _SHELF + checked(name))

    async def check(self) -> None:
        """Make the bucket if it is missing. Raises StoreRefused when the server does not let us."""
        if not await self._call(None, self._client.bucket_exists, self._bucket):
            await self._call(None, self._make_bucket)

    async def close(self) -> None:
        """End threads and connections."""
        self._threads.close()
        for key in self._http.pools.keys():  # noqa: SIM118  (no mapping: it cannot be iterated)
            self._http.pools[key].close()  # clearing alone leaves connections to the garbage collector
        self._http.clear()

    async def _call(self, digest: str | None, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run in a thread; the seam where S3's and the network's errors become ours.

        `digest` is named where the answer "no such thing" means that the artifact is not there.
        """
        try:
            return await self._threads.call(function, *args, **kwargs)
        except FOREIGN as error:
            raise _problem(error, digest) from error

    async def _spool(self, write: Callable[[bytes], None], block: bytes) -> None:
        try:
            await self._threads.finish(write, block)
        except OSError as error:
            raise StoreUnavailable(f"An upload cannot be put down: {error.strerror}.", retry_after=5) from error

    def _upload(self, body: BinaryIO, found: dict[str, Any]) -> None:
        if self._is_fresh(found):
            return
        try:
            self._send(body, found)
        except S3Error as error:
            if error.code != "NoSuchBucket":
                raise
            self._make_bucket()
            self._send(body, found)

    def _put_away(self, key: str, data: bytes) -> None:
        try:
            self._client.put_object(self._bucket, key, io.BytesIO(data), len(data))
        except S3Error as error:
            if error.code != "NoSuchBucket":
                raise
            self._make_bucket()
            self._client.put_object(self._bucket, key, io.BytesIO(data), len(data))

    def _fetch(self, key: str) -> bytes:
        with contextlib.closing(self._open(key, 0, None)) as body:
            return body.read()

    def _send(self, body: BinaryIO, found: dict[str, Any]) -> None:
        body.seek(0)
        self._client.put_object(
            self._bucket,
            _key(found["digest"]),
            body,
            found["size"],
            content_type=found["media_type"],
            part_size=PART,
            num_parallel_uploads=1,
        )

    def _is_fresh(self, found: dict[str, Any]) -> bool:
        """Tell whether the bucket holds these bytes with this media type since less than an hour."""
        try:
            about = self._client.stat_object(self._bucket, _key(found["digest"]))
        except S3Error as error:
            if error.code in MISSING:
                return False
            raise
        if (about.size, about.content_type) != (found["size"], found["media_type"]) or not about.last_modified:
            return False
        return datetime.now(UTC) - about.last_modified < FRESH

    def _make_bucket(self) -> None:
        try:
            self._client.make_bucket(self._bucket)
        except S3Error as error:
            if error.code not in OURS:
                raise

    def _copy(self, key: str) -> None:
        kind = self._client.stat_object(self._bucket, key).content_type or "application/octet-stream"
        source = CopySource(self._bucket, key)
        headers: dict[str, str | list[str] | tuple[str]] = {"Content-Type": kind}
        self._client.copy_object(self._bucket, key, source, metadata=headers, metadata_directive=REPLACE)

    def _unfinished(self, key: str | None, mark: str | None) -> ListMultipartUploadsResult:
        return self._client._list_multipart_uploads(
            self._bucket, prefix="sha256/", key_marker=key, upload_id_marker=mark, max_uploads=PAGE
        )

    def _open(self, key: str, start: int, left: int | None) -> urllib3.BaseHTTPResponse:
        return self._client.get_object(self._bucket, key, start, left or 0)

    def _download(self, digest: str) -> bytes:
        with contextlib.closing(self._open(_key(digest), 0, None)) as body:
            data = body.read()
        if hashlib.sha256(data).hexdigest() != hex_of(digest):
            raise corrupt(digest)
        return data


def _sink(data: object) -> BinaryIO:
    """Return where to put bytes until the upload: what is in memory already may stay there."""
    return io.BytesIO() if isinstance(data, bytes) else cast(BinaryIO, tempfile.SpooledTemporaryFile(IN_MEMORY))


def _key(digest: str) -> str:
    name = hex_of(digest)
    return f"sha256/{name[:2]}/{name}"


def _pull(body: urllib3.BaseHTTPResponse, count: int, feed: Callable[[bytes], object]) -> bytes:
    block = body.read(count)
    feed(block)
    return block


def _problem(error: BaseException, digest: str | None) -> SpindleError:
    """Tell what went wrong in words for whoever runs Spindle; no URL, no key."""
    if isinstance(error, S3Error):
        if digest is not None and error.code in MISSING:
            return ArtifactNotFound(f"There is no artifact {digest}.")
        if error.code in REFUSED:
            return StoreRefused(f"The object store refuses us ({error.code}): look at SPINDLE_S3_URL and the clock.")
        return StoreUnavailable(f"The object store answered {error.code}. {error.message or ''}".strip(), retry_after=5)
    cause = error.reason if isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason else error
    return StoreUnavailable(f"The object store does not answer as it should ({type(cause).__name__}).", retry_after=5)
