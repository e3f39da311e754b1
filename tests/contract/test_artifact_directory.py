"""What is the folder's own: its layout, a full disk, a killed process, a lost description."""

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest

from spindle_common.artifacts import ArtifactCorrupt, StoreUnavailable, open_store
from spindle_common.artifacts.directory import DirectoryStore
from support.places import ABSENT, PICTURE, Folder, read_stream


async def test_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("a file where the folder should be")
    store = open_store(tmp_path)
    for doing in (store.check(), store.put(b"x", "text/plain"), store.head(ABSENT), store.read(ABSENT)):
        with pytest.raises(StoreUnavailable) as caught:
            await doing
        assert caught.value.problem()["type"] == "urn:spindle:problem:store-unavailable"
        assert str(tmp_path) not in caught.value.detail
    await store.close()


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from spindle_common.artifacts import StoreUnavailable, open_store

async def source(count):
    for _ in range(count):
        yield b"x" * 400_000

async def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    store = open_store(Path(sys.argv[1]))
    for data in (b"x" * 1_500_000, source(20), source(3)):
        try:
            await store.put(data, "image/png")
        except StoreUnavailable as error:
            print(error.detail)
    await store.put(b"small", "text/plain")
    await store.close()

asyncio.run(main())
"""


async def test_directory_disk_full(tmp_path: Path) -> None:
    """The system's own limit on a file's size stands for the full disk: writing fails half-way, really."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FULL_DISK, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await child.communicate()
    assert child.returncode == 0
    assert said.decode().splitlines() == ["The artifact folder cannot be used: File too large."] * 3
    left = [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    assert len(left) == 2, "the small one and its description"


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from spindle_common.artifacts import open_store

async def source():
    for _ in range(30):
        yield b"x" * 100_000
    os.kill(os.getpid(), signal.SIGKILL)
    yield b""

asyncio.run(open_store(Path(sys.argv[1])).put(source(), "image/png"))
"""


async def test_directory_killed_in_mid_upload(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(tmp_path))
    assert await child.wait() == -9
    place = Folder(tmp_path)
    assert [stored async for stored in place.store.list()] == []
    (draft,) = place.everything()
    assert draft.startswith("tmp/")
    await place.store.check()
    assert place.everything() == {draft}, "it might still be written to"
    os.utime(place.root / draft, (time.time() - 7200,) * 2)
    await place.store.check()
    assert place.everything() == set()
    await place.store.close()


@pytest.mark.parametrize("description", [None, b"", b"[]", b'{"media_type"'])
async def test_directory_without_description(tmp_path: Path, description: bytes | None) -> None:
    place = Folder(tmp_path)
    found = await place.store.put(PICTURE, "image/png")
    path = place.path(found["digest"]).with_suffix(".json")
    if description is None:
        path.unlink()
    else:
        path.write_bytes(description)
    assert await place.store.head(found["digest"]) == found | {"media_type": "application/octet-stream"}
    assert await place.store.read(found["digest"]) == PICTURE
    await place.store.put(PICTURE, "image/png")
    assert await place.store.head(found["digest"]) == found, "the next put mends it"
    await place.store.close()


async def test_directory_cut_file_shows_in_head_and_ranges(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    digest = (await place.store.put(PICTURE, "image/png"))["digest"]
    place.spoil(digest, PICTURE[:-1])
    with pytest.raises(ArtifactCorrupt):
        await place.store.head(digest)
    with pytest.raises(ArtifactCorrupt):
        await read_stream(place.store, digest, 0, 10)
    await place.store.close()


async def test_directory_layout(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    assert isinstance(place.store, DirectoryStore)
    name = (await place.store.put(b"abc", "text/plain"))["digest"].removeprefix("sha256:")
    assert place.everything() == {f"sha256/{name[:2]}/{name}", f"sha256/{name[:2]}/{name}.json"}
    await place.store.close()


async def test_directory_lists_no_foreign_files(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    digest = (await place.store.put(b"abc", "text/plain"))["digest"]
    for name in ("sha256/.DS_Store", "sha256/README", place.path(digest).parent / "lost+found"):
        (place.root / name).write_text("not ours")
    assert [stored.digest async for stored in place.store.list()] == [digest]
    await place.store.close()
