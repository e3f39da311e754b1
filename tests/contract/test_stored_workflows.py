"""What every database must do for stored workflows: versions that never change, and one winner of a race."""

import asyncio
from typing import Any

import pytest

from spindle_common.digests import canonical, digest_of
from spindle_common.problems import InvalidRequest, NotFound, PreconditionFailed
from spindle_control.conditions import Condition, etag_of
from spindle_control.store import Store
from spindle_control.stored import StoredWorkflows, TooManyVersions, Version

FREE = Condition()
NEW = Condition(none_match="*")
MOST = 1000


@pytest.fixture
def stored(store: Store) -> StoredWorkflows:
    return StoredWorkflows(store)


def draft(name: str = "poster", **document: Any) -> Version:
    text = canonical(document)
    return Version(name, 0, digest_of(text), len(text), 0, document.get("description"), document)


def only_after(version: Version) -> Condition:
    return Condition(match=etag_of(version.digest))


async def put(stored: StoredWorkflows, draft: Version, condition: Condition = FREE, tenant: str = "default") -> Any:
    return await stored.put(tenant, draft, condition, MOST)


async def test_versions_count_from_one_and_come_back_as_they_were_given(stored: StoredWorkflows) -> None:
    first, second = draft(b=1, a="★", description="one"), draft(a=2)
    assert await put(stored, first) == (1, True)
    assert await put(stored, second) == (2, True)
    old = await stored.version("default", "poster", 1)
    assert (old.document, old.digest, old.size) == (first.document, first.digest, first.size)
    assert list(old.document or {}) == ["b", "a", "description"]
    assert old.description == "one"
    newest = await stored.version("default", "poster")
    assert (newest.version, newest.document, newest.description) == (2, {"a": 2}, None)
    assert 0 < old.created_at <= newest.created_at


async def test_a_document_may_hold_what_text_columns_cannot(stored: StoredWorkflows) -> None:
    await put(stored, draft(nodes={"a": "\0 and ★"}))
    assert (await stored.version("default", "poster")).document == {"nodes": {"a": "\0 and ★"}}


async def test_the_newest_version_again_is_no_new_version_but_an_older_one_is(stored: StoredWorkflows) -> None:
    one, two = draft(a=1), draft(a=2)
    assert [await put(stored, each) for each in (one, one, two, two, one)] == [
        (1, True),
        (1, False),
        (2, True),
        (2, False),
        (3, True),
    ]
    assert (await stored.version("default", "poster", 1)).digest == (
        await stored.version("default", "poster", 3)
    ).digest


async def test_what_is_not_there_is_not_found(stored: StoredWorkflows) -> None:
    await put(stored, draft())
    for tenant, name, number in (("other", "poster", None), ("default", "flyer", None), ("default", "poster", 2)):
        with pytest.raises(NotFound):
            await stored.version(tenant, name, number)
    with pytest.raises(NotFound):
        await stored.versions("other", "poster", None, 10)
    with pytest.raises(NotFound):
        await stored.hide("other", "poster", FREE)


async def test_conditions_are_on_the_newest_version(stored: StoredWorkflows) -> None:
    one, two, three = draft(a=1), draft(a=2), draft(a=3)
    with pytest.raises(PreconditionFailed):
        await put(stored, one, only_after(one))
    with pytest.raises(PreconditionFailed):
        await put(stored, one, Condition(match="*"))
    assert await put(stored, one, NEW) == (1, True)
    with pytest.raises(PreconditionFailed, match=one.digest):
        await put(stored, one, NEW)
    assert await put(stored, two, only_after(one)) == (2, True)
    for stale in (
        only_after(one),
        Condition(match=f"W/{etag_of(two.digest)}"),
        Condition(none_match=etag_of(two.digest)),
    ):
        with pytest.raises(PreconditionFailed):
            await put(stored, three, stale)
    listed = Condition(match=f"{etag_of(one.digest)} , {etag_of(two.digest)}", none_match=etag_of(one.digest))
    assert await put(stored, three, listed) == (3, True)
    assert await put(stored, two, Condition(match="*")) == (4, True)


async def test_of_writers_that_race_on_one_etag_one_wins(stored: StoredWorkflows) -> None:
    one = draft(a=0)
    await put(stored, one)
    racing = [put(stored, draft(a=number), only_after(one)) for number in range(1, 21)]
    answers = await asyncio.gather(*racing, return_exceptions=True)
    assert [answer for answer in answers if not isinstance(answer, PreconditionFailed)] == [(2, True)]


async def test_of_writers_that_race_to_create_one_wins(database_url: str) -> None:
    """Through stores of their own, as controls in several processes have them."""
    stores = [await Store.open(database_url) for _ in range(4)]
    racing = [put(StoredWorkflows(stores[n % 4]), draft(a=n), NEW) for n in range(20)]
    answers = await asyncio.gather(*racing, return_exceptions=True)
    assert [answer for answer in answers if not isinstance(answer, PreconditionFailed)] == [(1, True)]
    free = [put(StoredWorkflows(stores[n % 4]), draft("flyer", a=n)) for n in range(20)]
    numbers = [number for number, _ in await asyncio.gather(*free)]
    assert sorted(numbers) == list(range(1, 21))
    for store in stores:
        await store.close()


async def test_a_hidden_workflow_is_found_by_number_only_and_comes_back_with_the_next(stored: StoredWorkflows) -> None:
    one = draft(a=1)
    await put(stored, one)
    with pytest.raises(PreconditionFailed):
        await stored.hide("default", "poster", only_after(draft(a=2)))
    assert (await stored.hide("default", "poster", only_after(one))).version == 1
    for missing in (stored.version("default", "poster"), stored.hide("default", "poster", FREE)):
        with pytest.raises(NotFound):
            await missing
    assert await stored.page("default", None, 10) == ([], None)
    assert await stored.newest("default", ["poster"]) == {}
    assert (await stored.version("default", "poster", 1)).document == {"a": 1}
    assert [each.version for each in (await stored.versions("default", "poster", None, 10))[0]] == [1]
    with pytest.raises(PreconditionFailed):
        await put(stored, one, only_after(one))
    assert await put(stored, one, NEW) == (2, True)
    assert await stored.newest("default", ["poster", "flyer"]) == {"poster": 2}


async def test_no_more_versions_are_kept_than_are_allowed(stored: StoredWorkflows) -> None:
    for number in (1, 2):
        await stored.put("default", draft(a=number), FREE, 2)
    with pytest.raises(TooManyVersions):
        await stored.put("default", draft(a=3), FREE, 2)
    assert await stored.put("default", draft(a=2), FREE, 2) == (2, False)


async def test_names_are_listed_newest_change_first_without_gap_or_repeat(stored: StoredWorkflows) -> None:
    for number in range(7):
        await put(stored, draft(f"w{number}"))
    await put(stored, draft("foreign"), tenant="other")
    await asyncio.sleep(0.002)
    await put(stored, draft("w3", description="again"))
    seen: list[str] = []
    after: str | None = None
    while True:
        entries, after = await stored.page("default", after, 3)
        seen += [entry.name for entry in entries]
        if after is None:
            break
    assert seen[0] == "w3"
    assert sorted(seen) == [f"w{number}" for number in range(7)]
    (entry,) = (await stored.page("default", None, 1))[0]
    assert (entry.version, entry.description) == (2, "again")
    assert entry.created_at < entry.updated_at


async def test_versions_are_listed_newest_first_page_by_page(stored: StoredWorkflows) -> None:
    for number in range(5):
        await put(stored, draft(a=number))
    first, after = await stored.versions("default", "poster", None, 3)
    rest, end = await stored.versions("default", "poster", after, 3)
    assert [each.version for each in first + rest] == [5, 4, 3, 2, 1]
    assert (end, first[0].document) == (None, None)


@pytest.mark.parametrize("after", ["", "x", "1", "1.", ".r1", "9999999999999999999.r", "١.r", "1.\0", "1.A"])
async def test_a_strange_cursor_is_the_callers_mistake(stored: StoredWorkflows, after: str) -> None:
    with pytest.raises(InvalidRequest):
        await stored.page("default", after, 10)


@pytest.mark.parametrize("after", ["", "x", "-1", "9999999999", "١", "1.5"])
async def test_a_strange_cursor_of_versions_is_the_callers_mistake(stored: StoredWorkflows, after: str) -> None:
    await put(stored, draft())
    with pytest.raises(InvalidRequest):
        await stored.versions("default", "poster", after, 10)


async def test_several_versions_are_read_at_once(stored: StoredWorkflows) -> None:
    one, two = draft(a=1), draft("flyer", b="long")
    await put(stored, one)
    await put(stored, two)
    which = {("poster", 1), ("flyer", 1), ("flyer", 2), ("nothing", 1)}
    assert await stored.documents("default", which) == {("poster", 1): {"a": 1}, ("flyer", 1): {"b": "long"}}
    assert await stored.sizes("default", which) == {("poster", 1): one.size, ("flyer", 1): two.size}
    assert await stored.documents("other", which) == {}
