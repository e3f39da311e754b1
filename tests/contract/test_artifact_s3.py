"""What is S3's own: credentials, a server that is away, stuck or talks nonsense, and how its URL is read."""

import asyncio
import contextlib
import io
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from spindle_common.artifacts import ArtifactStore, StoreRefused, StoreUnavailable, open_store
from spindle_common.artifacts import s3 as s3_module
from spindle_common.artifacts.patience import Patience
from spindle_common.artifacts.s3 import S3Place, S3Store
from support.places import ABSENT, PICTURE, Bucket, pieces, read_stream
from support.radosgw import S3Server

pytest_plugins = ("support.s3_server",)

SOON = Patience(connect=0.3, read=0.3, retries=1)


def s3_store(url: str, patience: Patience = SOON) -> S3Store:
    return S3Store(S3Place.parse(url), patience=patience)


async def test_s3_wrong_credentials(radosgw: S3Server) -> None:
    bucket = Bucket(radosgw, f"t-{uuid4().hex}")
    found = await bucket.store.put(b"abc", "text/plain")
    wrong_secret = s3_store(radosgw.url(bucket.bucket, "not-the-secret"))
    unknown_key = s3_store(replace(radosgw, access_key="NOBODY").url(bucket.bucket))
    for store in (wrong_secret, unknown_key):
        doings = (
            store.check(),
            store.put(b"x", "text/plain"),
            store.read(found["digest"]),
            store.head(found["digest"]),
        )
        for doing in doings:
            with pytest.raises(StoreRefused) as caught:
                await doing
            assert "SPINDLE_S3_URL" in caught.value.detail
            assert not caught.value.retryable
            assert "not-the-secret" not in str(caught.value.problem())
        await store.close()
    await bucket.store.close()


async def test_s3_skips_an_upload_that_is_there(radosgw: S3Server) -> None:
    bucket = Bucket(radosgw, f"t-{uuid4().hex}")
    await bucket.store.put(PICTURE, "image/png")
    (before,) = [stored async for stored in bucket.store.list()]
    await asyncio.sleep(1.1)
    await bucket.store.put(PICTURE, "image/png")
    assert [stored async for stored in bucket.store.list()] == [before]
    await bucket.store.close()


async def test_s3_ignores_foreign_objects(radosgw: S3Server) -> None:
    bucket = Bucket(radosgw, f"t-{uuid4().hex}")
    await bucket.store.check()
    for name in ("readme.txt", "sha256/zz/what", "sha256/ab/short"):
        bucket.client.put_object(bucket.bucket, name, io.BytesIO(b"x"), 1)
    assert [stored async for stored in bucket.store.list()] == []
    await bucket.store.close()


async def test_s3_lists_more_than_one_page(radosgw: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_module, "PAGE", 7)
    bucket = Bucket(radosgw, f"t-{uuid4().hex}")
    made = {(await bucket.store.put(bytes([n]), "image/gif"))["digest"] for n in range(20)}
    assert {stored.digest async for stored in bucket.store.list()} == made
    await bucket.store.close()


async def test_s3_away_and_back(radosgw: S3Server) -> None:
    if not radosgw.gateway:
        pytest.skip("left out: SPINDLE_TEST_S3_URL names a server that is not ours to stop")
    store = s3_store(radosgw.url(f"t-{uuid4().hex}"))
    found = await store.put(PICTURE, "image/png")
    film = await store.put(bytes(48 * 1024 * 1024), "video/mp4")  # more than what sockets hold on the way
    stream = store.stream(film["digest"])
    await anext(stream)
    radosgw.gateway.stop_gateway()
    try:
        with pytest.raises(StoreUnavailable):
            await store.read(found["digest"])
        with pytest.raises(StoreUnavailable):
            [block async for block in stream]
    finally:
        radosgw.gateway.start_gateway()
    assert await store.read(found["digest"]) == PICTURE
    await store.close()


async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on, at most 1.3 MB a second."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(len(data) / 1.3e6)
    with contextlib.suppress(ConnectionError):
        writer.close()
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def slow_line(server: S3Server) -> AsyncIterator[S3Server]:
    """Return the server as it is found at the other end of a slow line."""
    host, port = server.endpoint.rsplit(":", 1)
    calls: list[asyncio.Task[None] | None] = []

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        calls.append(asyncio.current_task())
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(trickle(reader, back), trickle(there, writer))

    line = await asyncio.start_server(forward, "127.0.0.1", 0, limit=64 * 1024)
    async with line:
        yield replace(server, endpoint=f"127.0.0.1:{line.sockets[0].getsockname()[1]}")
        await asyncio.gather(*filter(None, calls))


def certificate(folder: Path) -> Path:
    """Make a certificate for 127.0.0.1, signed by itself; key and certificate in one file."""
    if not shutil.which("openssl"):
        pytest.skip("left out: S3 over TLS; there is no openssl to make a certificate")
    names = ("-subj", "/CN=spindle tests", "-addext", "subjectAltName=IP:127.0.0.1")
    both = str(folder / "both.pem")
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *names]
    subprocess.run([*make, "-keyout", both, "-out", str(folder / "public.pem")], check=True, capture_output=True)
    with (folder / "both.pem").open("a") as file:
        file.write((folder / "public.pem").read_text())
    return folder / "both.pem"


async def test_s3_over_tls(radosgw: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not radosgw.gateway:
        pytest.skip("left out: S3 over TLS; SPINDLE_TEST_S3_URL names a server that is not ours to configure")
    both = certificate(tmp_path)
    with radosgw.gateway.encrypted(both) as server:
        url = server.url(f"t-{uuid4().hex}").replace("http:", "https:")
        stranger = s3_store(url)
        with pytest.raises(StoreUnavailable, match="SSLError"):
            await stranger.check()
        await stranger.close()
        monkeypatch.setenv("SSL_CERT_FILE", str(both))
        store = s3_store(url)
        found = await store.put(PICTURE, "image/png")
        assert await read_stream(store, found["digest"], 5, 500_000) == PICTURE[5:500_005]
        await store.close()


async def test_s3_over_a_slow_line(radosgw: S3Server) -> None:
    """Patience is for each answer and each bit of progress, not for a whole upload."""
    data = PICTURE * 2
    async with slow_line(radosgw) as server:
        store = s3_store(server.url(f"t-{uuid4().hex}"), Patience(connect=0.3, read=5))
        began = time.monotonic()
        found = await store.put(data, "image/png")
        assert time.monotonic() - began > 1, "else the line was not slow"
        assert await store.read(found["digest"]) == data
        await store.close()


@contextlib.contextmanager
def server_that_only_listens() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://KEY:SECRET@127.0.0.1:{listening.getsockname()[1]}/bucket"


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://KEY:SECRET@127.0.0.1:{listening.getsockname()[1]}/bucket"


async def all_fail_soon(store: ArtifactStore) -> None:
    """Within seconds: 60 are for a busy machine, and a Retry-After of an hour is not obeyed."""
    doings = (
        store.check(),
        store.put(b"x", "text/plain"),
        store.put(pieces(PICTURE), "image/png"),
        store.head(ABSENT),
        store.read(ABSENT),
        read_stream(store, ABSENT),
        store.delete(ABSENT),
    )
    began = time.monotonic()
    for outcome in await asyncio.gather(*doings, return_exceptions=True):
        assert isinstance(outcome, StoreUnavailable)
        assert outcome.retryable
        assert outcome.retry_after
        assert "SECRET" not in str(outcome.problem())
    with pytest.raises(StoreUnavailable):
        [stored async for stored in store.list()]
    assert time.monotonic() - began < 60


async def test_s3_nobody_there() -> None:
    store = open_store(Path("unused"), closed_port())  # with the patience of every day
    await all_fail_soon(store)
    await store.close()


async def test_s3_no_answer() -> None:
    with server_that_only_listens() as url:
        store = s3_store(url)
        await all_fail_soon(store)
        await store.close()


async def answer(writer: asyncio.StreamWriter, reply: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        writer.write(reply)
        await writer.drain()
        writer.close()
        await writer.wait_closed()


REPLIES = [
    b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nRetry-After: 3600\r\n\r\n",
    b"HTTP/1.1 500 Oops\r\nContent-Type: application/xml\r\nContent-Length: 9\r\n\r\n<not-xml>",
    b"HTTP/1.1 400 Bad\r\nContent-Type: application/xml\r\nContent-Length: 9\r\n\r\n<not-xml>",
    b"HTTP/1.1 400 Bad\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\n<a/>\n",
    b"SSH-2.0-something else\r\n",
    b"",
]


@pytest.mark.parametrize("reply", REPLIES, ids=["503", "500", "broken xml", "html", "not http", "nothing"])
async def test_s3_a_server_that_answers_nonsense(reply: bytes) -> None:
    server = await asyncio.start_server(lambda _, writer: answer(writer, reply), "127.0.0.1", 0)
    async with server:
        store = s3_store(f"http://KEY:SECRET@127.0.0.1:{server.sockets[0].getsockname()[1]}/bucket")
        await all_fail_soon(store)
        await store.close()


@pytest.mark.parametrize(
    "url",
    [
        "s3://KEY:HUSH@host/bucket", "http://host/bucket", "http://KEY@host/bucket", "http://KEY:HUSH@/bucket",
        "http://KEY:HUSH@host", "http://KEY:HUSH@host/a/b", "http://KEY:HUSH@host/B", "http://KEY:HU/SH@host/bucket",
    ],
)  # fmt: skip
def test_s3_url_that_cannot_be_read(url: str) -> None:
    with pytest.raises(ValueError, match="S3 URL") as caught:
        open_store(Path("unused"), SecretStr(url))
    assert "HUSH" not in str(caught.value)


def test_s3_url() -> None:
    place = S3Place.parse("https://K%40:s%2F%3A+x@s3.example:444/my.bucket-1/?region=eu-west-1")
    assert place == S3Place("s3.example:444", "my.bucket-1", "K@", "s/:+x", secure=True, region="eu-west-1")
    assert "s/" not in repr(place)
    store = S3Store(place)
    assert "s/" not in repr(store)
