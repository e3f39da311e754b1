"""What every database must do for the store: what was accepted, who drives it, how it ended.

Runs on SQLite and, where its programs are installed, on PostgreSQL.
"""

import asyncio
from typing import Any

import pytest

from spindle_common.problems import InvalidRequest, NotFound, Unavailable
from spindle_control.store import CHUNK, IdempotencyMismatch, Store
from spindle_control.writer import GROUP
from support.rows import a_run


def an_event(number: int) -> dict[str, Any]:
    return {"id": f"1700-{number}", "type": "node.queued", "time": "2026-01-01T00:00:00Z", "data": {}}


async def test_a_run_comes_back_as_it_was_given(store: Store) -> None:
    row = a_run(traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01", parent="r0")
    assert await store.insert_run(row) is row
    found = await store.run("r1")
    assert found == row
    assert list(found.workflow["nodes"]) == ["b", "a"]
    assert found.name == "poster"


async def test_an_unknown_or_foreign_run_is_not_found(store: Store) -> None:
    await store.insert_run(a_run())
    assert (await store.run("r1", "default")).id == "r1"
    for run_id, tenant in (("r2", None), ("r1", "other")):
        with pytest.raises(NotFound, match="There is no run"):
            await store.run(run_id, tenant)


async def test_the_same_idempotency_key_gives_the_same_run(store: Store) -> None:
    first = await store.insert_run(a_run("r1"), ("key", "digest"))
    again = await store.insert_run(a_run("r2"), ("key", "digest"))
    assert (first.id, again.id) == ("r1", "r1")
    other = await store.insert_run(a_run("r3", tenant="other"), ("key", "digest"))
    assert other.id == "r3"
    with pytest.raises(IdempotencyMismatch) as caught:
        await store.insert_run(a_run("r4"), ("key", "another"))
    assert caught.value.status == 409
    assert caught.value.code == "idempotency-mismatch"
    with pytest.raises(NotFound):
        await store.run("r4")


async def test_concurrent_repeats_of_one_request_make_one_run(store: Store) -> None:
    rows = await asyncio.gather(*(store.insert_run(a_run(f"r{n}"), ("key", "digest")) for n in range(20)))
    assert len({row.id for row in rows}) == 1


async def test_one_failing_write_spoils_no_other_of_its_group(store: Store) -> None:
    rows = [a_run(f"r{n}") for n in range(5)] + [a_run("r3")] + [a_run(f"r{n}") for n in range(5, 9)]
    results = await asyncio.gather(*(store.insert_run(row) for row in rows), return_exceptions=True)
    assert [n for n, result in enumerate(results) if isinstance(result, BaseException)] == [5]
    page, _ = await store.runs("default", limit=100)
    assert len(page) == 9


async def test_more_writes_than_a_group_holds_are_all_done_in_order(store: Store) -> None:
    await asyncio.gather(*(store.insert_run(a_run(f"r{n:04}")) for n in range(2 * GROUP + 1)))
    taken = await asyncio.gather(*(store.take_over("r0000", "c", n) for n in range(1, GROUP)))
    assert all(taken)


async def test_a_cancelled_caller_harms_nobody(store: Store) -> None:
    writes = [asyncio.create_task(store.insert_run(a_run(f"r{n}"))) for n in range(3)]
    await asyncio.sleep(0)
    writes[1].cancel()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [isinstance(result, BaseException) for result in results] == [False, True, False]
    assert (await store.insert_run(a_run("r9"))).id == "r9"


async def test_pages_go_from_newest_to_oldest_without_gap_or_repeat(store: Store) -> None:
    for n in range(7):
        await store.insert_run(a_run(f"r{n}", created_at=1_700_000_000_000 + n // 2))
    await store.insert_run(a_run("foreign", tenant="other"))
    seen: list[str] = []
    after: str | None = None
    while True:
        page, after = await store.runs("default", after=after, limit=2)
        seen += [row.id for row in page]
        if after is None:
            break
    assert seen == ["r6", "r5", "r4", "r3", "r2", "r1", "r0"]
    light = (await store.runs("default", limit=1))[0][0]
    assert (light.name, light.inputs) == ("poster", {})


async def test_pages_filter_by_status(store: Store) -> None:
    await store.insert_run(a_run("r1"))
    await store.insert_run(a_run("r2", status="failed"))
    assert [row.id for row in (await store.runs("default", status="failed"))[0]] == ["r2"]


@pytest.mark.parametrize("after", ["", "x", "1", "1.", ".r1", "99999999999999999999.r", "١.r"])
async def test_a_strange_page_cursor_is_the_callers_mistake(store: Store, after: str) -> None:
    with pytest.raises(InvalidRequest):
        await store.runs("default", after=after)


async def test_only_a_higher_epoch_takes_a_run_over(store: Store) -> None:
    await store.insert_run(a_run())
    assert await store.take_over("r1", "first", 1)
    started = await store.run("r1")
    assert (started.status, started.owner, started.epoch) == ("running", "first", 1)
    assert started.started_at is not None
    assert not await store.take_over("r1", "second", 1)
    assert await store.take_over("r1", "second", 2)
    assert (await store.run("r1")).started_at == started.started_at
    assert not await store.take_over("nothing", "second", 3)


async def test_a_run_ends_once_and_only_by_its_driver(store: Store) -> None:
    await store.insert_run(a_run())
    await store.take_over("r1", "first", 1)
    await store.take_over("r1", "second", 2)
    assert not await store.end_run("r1", 1, "failed", 5, problem={"title": "stale"})
    done: dict[str, Any] = {"outputs": {"x": 1}, "nodes": {"a": {"status": "completed"}}, "events": [an_event(1)]}
    assert await store.end_run("r1", 2, "completed", 5, **done)
    assert not await store.end_run("r1", 2, "failed", 6, events=[an_event(2)])
    assert not await store.end_run("r1", None, "cancelled", 6)
    assert not await store.take_over("r1", "third", 3)
    ended = await store.run("r1")
    assert (ended.status, ended.ended_at, ended.outputs, ended.problem) == ("completed", 5, {"x": 1}, None)
    assert ended.nodes == {"a": {"status": "completed"}}
    assert await store.archived_events("r1", None, 10) == [an_event(1)]


async def test_an_end_has_an_ends_name(store: Store) -> None:
    await store.insert_run(a_run())
    with pytest.raises(ValueError, match="no end of a run"):
        await store.end_run("r1", None, "running", 5)


async def test_open_runs_can_be_asked_by_owner(store: Store) -> None:
    for n, status in enumerate(("queued", "running", "paused", "completed")):
        await store.insert_run(a_run(f"r{n}", status=status, created_at=n, owner="c" if status == "running" else None))
    assert [row.id for row in await store.open_runs()] == ["r0", "r1", "r2"]
    assert [row.id for row in await store.open_runs("c")] == ["r1"]
    assert [row.id for row in await store.open_runs(None)] == ["r0", "r2"]


async def test_archived_events_are_read_from_a_cursor_across_chunks(store: Store) -> None:
    await store.insert_run(a_run())
    assert await store.archived_events("r1", None, 10) is None
    events = [an_event(n) for n in range(2 * CHUNK + 3)]
    await store.end_run("r1", None, "completed", 5, events=events)
    assert await store.archived_events("r1", None, 10_000) == events
    assert await store.archived_events("r1", f"1700-{CHUNK - 2}", 3) == events[CHUNK - 1 : CHUNK + 2]
    assert await store.archived_events("r1", events[-1]["id"], 3) == []
    assert await store.archived_events("r1", "1700-9", 1) == [an_event(10)]
    with pytest.raises(InvalidRequest):
        await store.archived_events("r1", "1700-x", 3)


async def test_an_empty_archive_is_not_a_missing_one(store: Store) -> None:
    await store.insert_run(a_run())
    await store.end_run("r1", None, "cancelled", 5, events=[])
    assert await store.archived_events("r1", None, 10) == []


def a_type(description: str = "How many steps", **schema: Any) -> dict[str, Any]:
    port = {"kind": "value", "schema": {"type": "integer", "description": description} | schema, "required": True}
    named = {"kind": "value", "schema": {"type": "object", "properties": {"title": {"type": "string"}}}}
    return {"type": "x.y@1", "inputs": {"steps": port, "title": named}, "outputs": {}, "open_inputs": None}


async def test_a_node_type_keeps_the_first_schema_seen(store: Store) -> None:
    assert await store.save_node_types([a_type(), {"type": "a.b@1", "inputs": {}, "outputs": {}}]) == []
    assert await store.save_node_types([a_type("Number of steps")]) == []
    assert await store.save_node_types([a_type(minimum=1)]) == ["x.y@1"]
    other = a_type()
    other["inputs"]["title"]["schema"]["properties"] = {}
    assert await store.save_node_types([other]) == ["x.y@1"]
    assert [each["type"] for each in await store.node_types()] == ["a.b@1", "x.y@1"]
    assert (await store.node_types())[1] == a_type()


async def test_a_ticket_is_used_once(store: Store) -> None:
    await store.add_ticket("a", "studio", 2**50)
    assert await store.take_ticket("a") == "studio"
    assert await store.take_ticket("a") is None
    assert await store.take_ticket("b") is None
    await store.add_ticket("b", "studio", 1000)
    assert await store.take_ticket("b") is None


async def test_what_was_written_outlives_the_process_that_wrote_it(database_url: str) -> None:
    first = await Store.open(database_url)
    await first.insert_run(a_run())
    await first.close()
    with pytest.raises(Unavailable):
        await first.insert_run(a_run("r2"))
    second = await Store.open(database_url)
    await second.check()
    assert (await second.run("r1")).id == "r1"
    await second.close()


async def test_several_stores_open_and_write_one_database_together(database_url: str) -> None:
    stores = await asyncio.gather(*(Store.open(database_url) for _ in range(4)))
    await asyncio.gather(*(store.insert_run(a_run(f"r{n}-{m}")) for m in range(20) for n, store in enumerate(stores)))
    taken = await asyncio.gather(*(store.take_over("r0-0", f"c{n}", 1) for n, store in enumerate(stores)))
    assert taken.count(True) == 1
    assert len((await stores[0].runs("default", limit=100))[0]) == 80
    for store in stores:
        await store.close()
