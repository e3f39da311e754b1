"""What every artifact store promises, tried on each implementation: a folder, and a bucket of a real S3 server."""

import asyncio
import contextlib
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from spindle_common.artifacts import ArtifactCorrupt, ArtifactNotFound, ArtifactStore, InvalidDigest, open_store
from spindle_common.artifacts import s3 as s3_module
from spindle_common.contracts import Artifact
from spindle_common.problems import TooLarge, UnsupportedMediaType
from support.places import ABSENT, PICTURE, SIZE, Bucket, Folder, Place, digest_of, pieces, read_stream

pytest_plugins = ("support.s3_server",)


@pytest.fixture(params=["directory", "s3"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    made: Place
    if request.param == "directory":
        made = Folder(tmp_path / "data dir")
    else:
        made = Bucket(request.getfixturevalue("radosgw"), f"t-{uuid4().hex}")
    yield made
    await made.store.close()


@pytest.fixture
def store(place: Place) -> ArtifactStore:
    return place.store


# What goes in comes out ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", PICTURE], ids=["empty", "small", "picture"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_round_trip(store: ArtifactStore, data: bytes, streamed: bool) -> None:
    found = await store.put(pieces(data) if streamed else data, "image/png")
    assert found == {"digest": digest_of(data), "media_type": "image/png", "size": len(data)}
    assert Artifact.model_validate(found)
    assert await store.head(found["digest"]) == found
    assert await store.read(found["digest"]) == data
    assert await read_stream(store, found["digest"]) == data


async def test_a_large_stream_is_not_held_in_memory(place: Place) -> None:
    block = os.urandom(1024 * 1024)
    total = hashlib.sha256()

    async def source() -> AsyncIterator[bytes]:
        for _ in range(40):  # more than a part of a multipart upload
            total.update(block)
            yield block

    found = await place.store.put(source(), "video/mp4")
    assert (found["digest"], found["size"]) == ("sha256:" + total.hexdigest(), 40 * len(block))
    received = hashlib.sha256()
    async for piece in place.store.stream(found["digest"]):
        assert len(piece) <= 1024 * 1024
        received.update(piece)
    assert received.hexdigest() == total.hexdigest()
    assert not any(name.startswith("unfinished") for name in place.everything())


async def test_another_process_finds_it(place: Place) -> None:
    found = await place.store.put(PICTURE, "image/webp")
    other = open_store(*place.arguments())
    assert await other.head(found["digest"]) == found
    assert await other.read(found["digest"]) == PICTURE
    await other.close()


@pytest.mark.parametrize(
    ("start", "length"),
    [
        (0, 1), (0, SIZE), (0, SIZE + 5), (1, None), (7, 0), (300_000, 600_000), (SIZE - 1, 1), (SIZE - 1, 10),
        (SIZE - 1, None), (SIZE, None), (SIZE, 5), (SIZE + 9, 1), (0, 0),
    ],
)  # fmt: skip
async def test_a_range_is_a_slice(store: ArtifactStore, start: int, length: int | None) -> None:
    digest = (await store.put(PICTURE, "image/png"))["digest"]
    end = None if length is None else start + length
    assert await read_stream(store, digest, start, length) == PICTURE[start:end]


async def test_a_range_of_nothing(store: ArtifactStore) -> None:
    digest = (await store.put(b"", "text/plain"))["digest"]
    assert await read_stream(store, digest, 0, 10) == b""
    assert await read_stream(store, digest, 3) == b""


@pytest.mark.parametrize(("start", "length"), [(-1, None), (0, -1)])
async def test_a_range_does_not_count_backwards(store: ArtifactStore, start: int, length: int | None) -> None:
    digest = (await store.put(b"abc", "text/plain"))["digest"]
    with pytest.raises(ValueError, match="range"):
        await read_stream(store, digest, start, length)


async def test_a_reader_may_stop_early(store: ArtifactStore) -> None:
    digest = (await store.put(PICTURE, "image/png"))["digest"]
    for _ in range(20):  # more often than there are threads or connections
        async with contextlib.aclosing(store.stream(digest)) as blocks:  # type: ignore[type-var]
            assert (await anext(blocks))[:4] == PICTURE[:4]
    assert await store.read(digest) == PICTURE


# The same bytes again -----------------------------------------------------------------------------------------------


async def test_twenty_puts_at_once(place: Place) -> None:
    found = await asyncio.gather(*(place.store.put(PICTURE, "image/png") for _ in range(20)))
    assert all(one == found[0] for one in found)
    assert [stored.digest async for stored in place.store.list()] == [found[0]["digest"]]
    assert await place.store.read(found[0]["digest"]) == PICTURE
    assert not [name for name in place.everything() if "tmp" in name]


PUTTER = """
import asyncio, sys
from pathlib import Path
from spindle_common.artifacts import open_store

async def main():
    store = open_store(Path(sys.argv[1]), sys.argv[2] or None)
    for number in range(40):
        data = bytes([number % 10]) * 200_000
        found = await store.put(data, "image/png")
        assert await store.read(found["digest"]) == data
    await store.close()

asyncio.run(main())
"""


async def test_several_processes_put_the_same(place: Place) -> None:
    data_dir, url = place.arguments()
    command = (sys.executable, "-c", PUTTER, str(data_dir), url or "")
    children = [await asyncio.create_subprocess_exec(*command) for _ in range(4)]
    assert [await child.wait() for child in children] == [0] * 4
    assert len([stored async for stored in place.store.list()]) == 10
    assert not [name for name in place.everything() if "tmp" in name]


async def test_a_put_touches(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = (await place.store.put(PICTURE, "image/png"))["digest"]
    place.age(digest)
    monkeypatch.setattr(s3_module, "FRESH", timedelta(0))
    before = [stored.modified async for stored in place.store.list()]
    await asyncio.sleep(1.1)  # S3 counts whole seconds
    await place.store.put(PICTURE, "image/png")
    after = [stored.modified async for stored in place.store.list()]
    assert before[0] < after[0]
    assert abs(after[0] - datetime.now(UTC)) < timedelta(seconds=30)


async def test_the_media_type_is_the_one_given_last(store: ArtifactStore) -> None:
    first = await store.put(b"{}", "application/octet-stream")
    assert (await store.head(first["digest"]))["media_type"] == "application/octet-stream"
    second = await store.put(b"{}", "application/vnd.spindle+json")
    assert await store.head(first["digest"]) == second


# What is not there, or not as it should be ----------------------------------------------------------------------------


async def test_nothing_there(store: ArtifactStore) -> None:
    for _ in range(2):
        for reading in (
            store.head(ABSENT),
            store.read(ABSENT),
            read_stream(store, ABSENT),
            read_stream(store, ABSENT, 1, 2),
        ):
            with pytest.raises(ArtifactNotFound) as caught:
                await reading
            assert caught.value.problem()["type"] == "urn:spindle:problem:artifact-not-found"
        await store.put(b"now there is a bucket", "text/plain")


BAD_DIGESTS = [
    "", "sha256:", "0" * 64, "sha256:" + "0" * 63, "sha256:" + "0" * 65, "sha256:" + "A" * 64, "md5:" + "0" * 32,
    "sha256:../../../../etc/passwd", "sha256:" + "0" * 64 + "\n", "sha256:" + "\u0660" * 64,
    "sha256:" + "0" * 60 + "/..\0",
]  # fmt: skip


@pytest.mark.parametrize("digest", BAD_DIGESTS)
async def test_what_is_no_digest_touches_nothing(store: ArtifactStore, digest: str) -> None:
    for doing in (store.head(digest), store.read(digest), read_stream(store, digest), store.delete(digest)):
        with pytest.raises(InvalidDigest) as caught:
            await doing
        assert caught.value.status == 400


@pytest.mark.parametrize(
    "media_type", ["", "png", "image/", "image/png; charset=x", "image/png\r\nX: y", "a/" + "b" * 200]
)
async def test_what_is_no_media_type(place: Place, media_type: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        await place.store.put(b"data", media_type)
    assert place.everything() == set()


async def collect(blocks: AsyncIterator[bytes], received: list[bytes]) -> None:
    async for block in blocks:
        received.append(block)


async def test_spoilt_bytes_are_not_handed_out(place: Place) -> None:
    digest = (await place.store.put(PICTURE, "image/png"))["digest"]
    place.spoil(digest, PICTURE[:-1] + b"!")
    with pytest.raises(ArtifactCorrupt) as caught:
        await place.store.read(digest)
    assert caught.value.problem()["type"] == "urn:spindle:problem:artifact-corrupt"
    received: list[bytes] = []
    with pytest.raises(ArtifactCorrupt):
        await collect(place.store.stream(digest), received)
    assert len(b"".join(received)) < SIZE, "a client that counts sees that it did not get everything"


@pytest.mark.parametrize("left", [0, 1000])
async def test_cut_bytes_are_not_handed_out(place: Place, left: int) -> None:
    digest = (await place.store.put(PICTURE, "image/png"))["digest"]
    place.spoil(digest, PICTURE[:left])
    with pytest.raises(ArtifactCorrupt):
        await place.store.read(digest)
    with pytest.raises(ArtifactCorrupt):
        await read_stream(place.store, digest)
    await place.store.put(PICTURE, "image/png")
    assert await place.store.read(digest) == PICTURE, "a put mends it"


# What does not get through leaves nothing -----------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_the_limit(place: Place, streamed: bool) -> None:
    data = pieces(PICTURE) if streamed else PICTURE
    with pytest.raises(TooLarge):
        await place.store.put(data, "image/png", limit=SIZE - 1)
    assert place.everything() == set()
    again = pieces(PICTURE) if streamed else PICTURE
    assert (await place.store.put(again, "image/png", limit=SIZE))["size"] == SIZE


async def test_a_limit_ends_an_endless_stream(place: Place) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100_000

    with pytest.raises(TooLarge):
        await place.store.put(endless(), "image/png", limit=9_000_000)
    assert place.everything() == set()


async def test_a_source_that_breaks_off(place: Place) -> None:
    async def torn() -> AsyncIterator[bytes]:
        for _ in range(60):
            yield b"y" * 100_000
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError):
        await place.store.put(torn(), "image/png")
    assert place.everything() == set()


async def test_a_cancelled_put(place: Place) -> None:
    begun = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        for _ in range(60):
            yield b"z" * 100_000
        begun.set()
        await asyncio.sleep(60)

    putting = asyncio.ensure_future(place.store.put(stuck(), "image/png"))
    await begun.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert place.everything() == set()


async def test_puts_cancelled_at_any_moment_are_whole_or_absent(place: Place) -> None:
    for number in range(24):
        putting = asyncio.ensure_future(place.store.put(PICTURE + bytes([number]), "image/png"))
        await asyncio.sleep(0.001 * number)
        putting.cancel()
        await asyncio.wait([putting])
    await place.store.put(b"something", "text/plain")
    async for stored in place.store.list():
        assert digest_of(await place.store.read(stored.digest)) == stored.digest
    assert not [name for name in place.everything() if "tmp" in name or "unfinished" in name]


# Listing and deleting -------------------------------------------------------------------------------------------------


async def test_list(place: Place) -> None:
    assert [stored async for stored in place.store.list()] == []
    made = {(await place.store.put(bytes([n]) * n, "image/gif"))["digest"]: n for n in range(30)}
    listed = [stored async for stored in place.store.list()]
    assert {stored.digest: stored.size for stored in listed} == made
    assert len(listed) == len(made)
    assert {stored.media_type for stored in listed} <= {None, "image/gif"}
    assert all(abs(stored.modified - datetime.now(UTC)) < timedelta(minutes=1) for stored in listed)


async def test_delete(place: Place) -> None:
    digest = (await place.store.put(PICTURE, "image/png"))["digest"]
    for _ in range(2):
        await place.store.delete(digest)
        with pytest.raises(ArtifactNotFound):
            await place.store.read(digest)
        assert place.everything() == set()
    await place.store.put(PICTURE, "image/png")
    assert await place.store.read(digest) == PICTURE


async def test_delete_where_nothing_ever_was(place: Place) -> None:
    await place.store.delete(ABSENT)
    assert place.everything() == set(), "and nothing is made of it"
    kept = (await place.store.put(PICTURE, "image/png"))["digest"]
    before = place.everything()
    await place.store.delete(ABSENT)
    assert place.everything() == before
    assert await place.store.read(kept) == PICTURE


# What a collector asks for --------------------------------------------------------------------------------------------


async def test_a_touch_moves_the_time_on_and_nothing_else(place: Place) -> None:
    found = await place.store.put(PICTURE, "image/png")
    digest = found["digest"]
    place.age(digest)
    before = await place.store.stat(digest)
    await asyncio.sleep(1.1)  # S3 counts whole seconds
    await place.store.touch(digest)
    after = await place.store.stat(digest)
    assert before.modified < after.modified
    assert abs(after.modified - datetime.now(UTC)) < timedelta(seconds=30)
    assert await place.store.head(digest) == found
    assert await place.store.read(digest) == PICTURE


async def test_what_is_not_there_is_neither_touched_nor_looked_at(store: ArtifactStore) -> None:
    for _ in range(2):
        for doing in (store.touch(ABSENT), store.stat(ABSENT)):
            with pytest.raises(ArtifactNotFound):
                await doing
        await store.put(b"now there is a bucket", "text/plain")


async def test_a_listing_and_a_look_agree(store: ArtifactStore) -> None:
    digest = (await store.put(PICTURE, "image/png"))["digest"]
    (listed,) = [stored async for stored in store.list()]
    looked = await store.stat(digest)
    assert (looked.digest, looked.size, looked.media_type) == (listed.digest, listed.size, "image/png")
    assert looked.modified.replace(microsecond=0) == listed.modified.replace(microsecond=0)


async def test_only_what_is_older_is_listed(store: ArtifactStore) -> None:
    old = (await store.put(b"old", "text/plain"))["digest"]
    await asyncio.sleep(1.1)
    between = datetime.now(UTC).replace(microsecond=0)
    await asyncio.sleep(0.2)
    await store.put(b"new", "text/plain")
    assert [stored.digest async for stored in store.list(older_than=between)] == [old]
    assert len([stored async for stored in store.list(older_than=between + timedelta(minutes=1))]) == 2


async def test_a_put_is_announced_before_anything_can_be_seen(place: Place) -> None:
    seen: list[tuple[str, set[str]]] = []

    async def announce(digest: str) -> None:
        seen.append((digest, {name for name in place.everything() if name.startswith("sha256/")}))

    store = open_store(*place.arguments(), announce)
    for data in (PICTURE, pieces(PICTURE)):
        await store.put(data, "image/png")
    await store.close()
    digest = digest_of(PICTURE)
    assert [each for each, _ in seen] == [digest, digest]
    assert seen[0][1] == set()


async def test_a_refused_announcement_leaves_nothing(place: Place) -> None:
    async def refuse(digest: str) -> None:
        raise ConnectionResetError(digest)

    store = open_store(*place.arguments(), refuse)
    for data in (PICTURE, pieces(PICTURE)):
        with pytest.raises(ConnectionResetError):
            await store.put(data, "image/png")
    await store.close()
    assert place.everything() == set()


async def test_uploads_of_dead_processes_are_found_and_abandoned(place: Place) -> None:
    place.leave_upload()
    await place.store.put(PICTURE, "image/png")
    kept = len([name for name in place.everything() if name.startswith("sha256/")])
    long_ago, soon = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(minutes=1)
    assert [upload async for upload in place.store.uploads(long_ago)] == []
    (upload,) = [upload async for upload in place.store.uploads(soon)]
    for _ in range(2):
        await place.store.abandon(upload)
    assert [upload async for upload in place.store.uploads(soon)] == []
    assert len(place.everything()) == kept
    assert await place.store.read(digest_of(PICTURE)) == PICTURE


async def test_no_uploads_where_nothing_ever_was(store: ArtifactStore) -> None:
    assert [upload async for upload in store.uploads(datetime.now(UTC))] == []


async def test_check_is_repeatable_and_leaves_nothing_behind(place: Place) -> None:
    for _ in range(2):
        await place.store.check()
        assert place.everything() == set()
    digest = (await place.store.put(b"ready", "text/plain"))["digest"]
    await place.store.check()
    assert await place.store.read(digest) == b"ready"
