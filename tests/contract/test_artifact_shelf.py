"""What every shelf promises, tried on each implementation: a folder, and a bucket of a real S3 server."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from spindle_common.artifacts import ObjectStore, open_store
from support.places import PICTURE

pytest_plugins = ("support.s3_server",)


@pytest.fixture(params=["directory", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    url = None if request.param == "directory" else request.getfixturevalue("radosgw").url(f"t-{uuid4().hex}")
    made = open_store(tmp_path / "data dir", url)
    yield made
    await made.close()


async def names(store: ObjectStore, prefix: str = "", older_than: datetime | None = None) -> set[str]:
    return {each.name async for each in store.on_shelf(prefix, older_than)}


async def test_what_is_put_there_is_there_until_it_is_taken_away(store: ObjectStore) -> None:
    assert await store.shelved("cache/a/t.one@1/x") is None
    assert await names(store) == set()
    await store.unshelve("cache/a/t.one@1/x")
    await store.shelve("cache/a/t.one@1/x", b"one")
    await store.shelve("cache/a/t.one@1/x", b"other")
    assert await store.shelved("cache/a/t.one@1/x") == b"other"
    await store.unshelve("cache/a/t.one@1/x")
    assert await store.shelved("cache/a/t.one@1/x") is None


async def test_it_is_listed_by_the_beginning_of_its_name(store: ObjectStore) -> None:
    every = {"cache/a/t.one@1/x", "cache/a/t.one@2/x", "cache/a/t.oneself@1/y", "cache/ab/t.one@1/x"}
    for name in every:
        await store.shelve(name, b"12345")
    assert await names(store) == every
    assert await names(store, "cache/a/") == every - {"cache/ab/t.one@1/x"}
    assert await names(store, "cache/a/t.one@") == {"cache/a/t.one@1/x", "cache/a/t.one@2/x"}
    assert await names(store, "cache/b/") == set()
    assert {each.size async for each in store.on_shelf("cache/")} == {5}


async def test_only_what_is_older_is_listed(store: ObjectStore) -> None:
    await store.shelve("a", b"")
    assert await names(store, older_than=datetime.now(UTC) - timedelta(minutes=1)) == set()
    assert await names(store, older_than=datetime.now(UTC) + timedelta(minutes=1)) == {"a"}


async def test_artifacts_and_shelf_do_not_meet(store: ObjectStore) -> None:
    await store.shelve("a", b"1")
    found = await store.put(PICTURE, "image/png")
    assert [each.digest async for each in store.list()] == [found["digest"]]
    assert await names(store) == {"a"}
    assert [each async for each in store.uploads(datetime.now(UTC) + timedelta(minutes=1))] == []


@pytest.mark.parametrize("name", ["", "/a", "a/../b", "a//b", "A", "a b", ".."])
async def test_strange_names_are_refused(store: ObjectStore, name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        await store.shelve(name, b"")
