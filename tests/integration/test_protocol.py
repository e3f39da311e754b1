"""The task protocol's steps on a real server: each does what it says, once, and only for whoever has the right."""

import asyncio
import json
from typing import Any

import pytest

from spindle_common import keys
from spindle_common.events import from_entry
from spindle_common.problems import Crashed, TimedOut
from spindle_common.queue import NodeEnd, Offer, Queue, Right, compact, outcome_text

FIELDS: dict[str, str | int] = {
    "tenant": "default",
    "weight": 1,
    "priority": 0,
    "workflow": "{}",
    "inputs": "{}",
    "plan": "{}",
    "traceparent": "",
}
CRASHED = Crashed().problem()
WAITED = TimedOut().problem()
LEASE = 30.0


async def opened(queue: Queue, run: str = "r1", epoch: int = 1, priority: int = 0) -> str:
    await queue.open(run, status="running", owner="c1", epoch=epoch, fields=FIELDS | {"priority": priority})
    return run


def offer(name: str = "a", *paths: str, queue: str = "cpu") -> Offer:
    nodes = paths or (name,)
    return Offer(name, queue, "{}", nodes, nodes[:1])


async def registered(queue: Queue, worker: str = "w1", **slots: int) -> str:
    await queue.register(worker, LEASE, "{}", slots or {"cpu": 2})
    return worker


async def taken(queue: Queue, worker: str = "w1", nonce: str = "n1", **free: int) -> list[Right]:
    rows = await queue.take(worker, nonce, LEASE, free or {"cpu": 1})
    return [Right(row.task, row.attempt, nonce) for row in rows]


def done(path: str, value: object = 1) -> NodeEnd:
    outputs = {"value": value}
    return NodeEnd(path, outcome_text("completed", outputs=outputs), compact({"outputs": outputs}))


async def rows(queue: Queue, key: str) -> list[Any]:
    return list(await queue.client.xrange(key) or [])


async def history(queue: Queue, run: str = "r1") -> list[dict[str, Any]]:
    return [from_entry(run, entry, fields) for entry, fields in await rows(queue, keys.events(run))]


async def quiet(queue: Queue) -> None:
    """Nothing of any task is left behind."""
    assert await queue.client.zcard(keys.LEASES) == 0
    assert await queue.client.zcard(keys.TIMERS) == 0
    for name in ("cpu", "async"):
        assert await queue.client.xlen(keys.queue(name)) == 0
        assert await queue.client.zcard(keys.lane(name)) == 0


async def test_a_task_goes_from_dispatch_to_commit(queue: Queue) -> None:
    run = await opened(queue)
    await registered(queue)
    assert await queue.dispatch(run, 1, [offer()], 3) == "ok"
    (right,) = await taken(queue)
    assert await queue.commit(right, [done("a")], last=True) == "ok"
    outcome = (await queue.ledger(run))["a"]
    assert outcome["status"] == "completed"
    assert outcome["outputs"] == {"value": 1}
    assert outcome["started_at"] <= outcome["ended_at"]
    kinds = [event["type"] for event in await history(queue)]
    assert kinds == ["run.queued", "run.started", "node.queued", "node.started", "node.completed"]
    await quiet(queue)


async def test_dispatching_twice_changes_nothing(queue: Queue) -> None:
    run = await opened(queue)
    await registered(queue)
    for _ in range(2):
        assert await queue.dispatch(run, 1, [offer()], 3) == "ok"
    assert len(await taken(queue, cpu=5)) == 1


async def test_a_repeated_take_gives_the_same_attempt(queue: Queue) -> None:
    run = await opened(queue)
    await registered(queue)
    await queue.dispatch(run, 1, [offer("a"), offer("b")], 3)
    first = await taken(queue)
    assert await taken(queue) == first
    assert first[0].attempt == 1
    (second,) = await taken(queue, nonce="n2")
    assert second.task == "r1/b"


async def test_a_repeated_commit_changes_nothing(queue: Queue) -> None:
    run = await opened(queue)
    await registered(queue)
    await queue.dispatch(run, 1, [offer()], 3)
    (right,) = await taken(queue)
    await queue.commit(right, [done("a", 1)], last=True)
    assert await queue.commit(right, [done("a", 2)], last=True) == "repeat"
    assert (await queue.ledger(run))["a"]["outputs"] == {"value": 1}


async def test_a_stale_fence_is_refused_and_counted(queue: Queue) -> None:
    run = await opened(queue)
    await registered(queue)
    await queue.dispatch(run, 1, [offer()], 3)
    (right,) = await taken(queue)
    zombie = Right(right.task, right.attempt, "another")
    assert await queue.commit(zombie, [done("a")], last=True) == "stale"
    assert await queue.client.hget(keys.COUNTERS, "fences_refused") == "1"
    assert (await queue.ledger(run))["a"]["status"] == "running"


async def test_a_lapsed_lease_is_offered_again_under_a_higher_fence(queue: Queue) -> None:
    run = await opened(queue)
    await registered(queue)
    await queue.dispatch(run, 1, [offer()], 3)
    old = Right((await queue.take("w1", "n1", 0.0, {"cpu": 1}))[0].task, 1, "n1")
    await asyncio.sleep(0.01)
    assert (await queue.sweep(CRASHED, WAITED))[1] == 1
    (new,) = await taken(queue, nonce="n2")
    assert new.attempt == 2
    assert await queue.commit(old, [done("a", "old")], last=True) == "stale"
    assert await queue.commit(new, [done("a", "new")], last=True) == "ok"
    assert (await queue.ledger(run))["a"]["outputs"] == {"value": "new"}
    await quiet(queue)


async def test_a_task_that_keeps_killing_its_worker_fails_after_its_budget(queue: Queue) -> None:
    run = await opened(queue)
    await registered(queue)
    await queue.dispatch(run, 1, [offer()], 2)
    for nonce in ("n1", "n2"):
        assert await queue.take("w1", nonce, 0.0, {"cpu": 1})
        await asyncio.sleep(0.01)
        await queue.sweep(CRASHED, WAITED)
    assert await taken(queue, nonce="n3") == []
    assert (await queue.ledger(run))["a"]["problem"]["type"].endswith("crashed")
    assert await queue.client.xlen(keys.DEAD) == 1
    await quiet(queue)


async def test_an_error_waits_for_its_delay(queue: Queue) -> None:
    run = await opened(queue)
    await registered(queue)
    await queue.dispatch(run, 1, [offer()], 3)
    (right,) = await taken(queue)
    assert await queue.give_back(right, "error", delay=0.05, failed={"a": "{}"}) == "ok"
    assert await taken(queue, nonce="n2") == []
    assert await queue.errors(right.task) == {"a": 1}
    await asyncio.sleep(0.06)
    await queue.sweep(CRASHED, WAITED)
    (again,) = await taken(queue, nonce="n3")
    assert again.attempt == 2
    assert run


@pytest.mark.parametrize("when", ["before", "after"])
async def test_ending_a_run_ends_its_tasks(queue: Queue, when: str) -> None:
    run = await opened(queue)
    await registered(queue)
    await queue.dispatch(run, 1, [offer()], 3)
    rights = await taken(queue) if when == "after" else []
    assert await queue.finish(run, None, "cancelled", "{}") == "ok"
    assert await queue.finish(run, 1, "completed", "{}") == "cancelled"
    for right in rights:
        assert await queue.commit(right, [done("a")], last=True) == "ended"
    assert await taken(queue, nonce="n2") == []
    assert (await queue.ledger(run))["a"]["status"] == "cancelled"
    await quiet(queue)


async def test_only_the_highest_epoch_drives(queue: Queue) -> None:
    run = await opened(queue)
    assert await queue.own(run, "c2", 2) == "owned"
    assert await queue.own(run, "c2", 2) == "owned"
    assert await queue.own(run, "c3", 2) == "stale"
    assert await queue.dispatch(run, 1, [offer()], 3) == "stale"
    assert await queue.finish(run, 1, "completed", "{}") == "stale"
    assert await queue.finish(run, 2, "completed", "{}") == "ok"


async def test_the_first_commit_of_a_copied_node_counts(queue: Queue) -> None:
    run = await opened(queue)
    await registered(queue)
    await queue.dispatch(run, 1, [offer("a", "t", "a"), offer("b", "t", "b")], 3)
    first, second = await taken(queue, cpu=2)
    await queue.commit(first, [done("t", 1), done("a")], last=True)
    await queue.commit(second, [done("t", 2), done("b")], last=True)
    assert (await queue.ledger(run))["t"]["outputs"] == {"value": 1}
    ends = [event["node"] for event in await history(queue) if event["type"] == "node.completed"]
    assert sorted(ends) == ["a", "b", "t"]


async def test_an_error_of_a_copy_leaves_the_committed_node_as_it_is(queue: Queue) -> None:
    run = await opened(queue)
    await registered(queue)
    await queue.dispatch(run, 1, [offer("a", "t", "a"), offer("b", "t", "b")], 3)
    first, second = await taken(queue, cpu=2)
    await queue.commit(first, [done("t", 1), done("a")], last=True)
    assert await queue.give_back(second, "error", failed={"t": "{}"}) == "ok"
    assert (await queue.ledger(run))["t"]["outputs"] == {"value": 1}
    assert "node.retrying" not in [event["type"] for event in await history(queue)]
    (again,) = await taken(queue, nonce="n2")
    assert again.attempt == 2


async def test_streams_hold_no_more_than_twice_the_slots_and_priority_decides(queue: Queue) -> None:
    low, high = await opened(queue, "low"), await opened(queue, "high", priority=5)
    await queue.dispatch(low, 1, [offer(f"n{i}") for i in range(10)], 3)
    assert await queue.client.xlen(keys.queue("cpu")) == 0, "no worker: nothing is bound yet"
    await queue.dispatch(high, 1, [offer("h")], 3)
    await registered(queue, cpu=1)
    assert await queue.client.xlen(keys.queue("cpu")) == 2
    (first,) = await taken(queue)
    assert first.task == "high/h"


async def test_what_a_parked_run_leaves_free_is_filled_again(queue: Queue) -> None:
    parked, other = await opened(queue, "parked"), await opened(queue, "other")
    await registered(queue, cpu=1)
    for run in (parked, other):
        await queue.dispatch(run, 1, [offer("a"), offer("b")], 3)
    await queue.pause(parked)
    assert await queue.park(parked, 1) == "parking"
    assert await queue.parked(parked, 1) == "ok"
    assert await queue.client.xlen(keys.queue("cpu")) == 2
    assert [right.task for right in await taken(queue, cpu=2)] == ["other/a", "other/b"]


async def test_nothing_is_bound_to_slots_of_workers_that_died(queue: Queue) -> None:
    run = await opened(queue)
    await registered(queue, "w2", cpu=1)
    await queue.register("w1", 0.0, "{}", {"cpu": 2})
    await queue.dispatch(run, 1, [offer(f"n{i}") for i in range(8)], 3)
    assert len(await queue.take("w1", "n1", 0.0, {"cpu": 6})) == 6
    await asyncio.sleep(0.01)
    await queue.sweep(CRASHED, WAITED)
    assert await queue.client.xlen(keys.queue("cpu")) == 2


async def test_what_wakes_a_control_that_is_gone_does_not_stay(queue: Queue) -> None:
    run = await opened(queue)
    await queue.control_gone("c1")
    await queue.pause(run)
    assert 0 < await queue.client.ttl(keys.drive("c1")) <= 86400


async def test_a_lost_group_is_made_again(queue: Queue) -> None:
    run = await opened(queue)
    await registered(queue)
    await queue.client.xgroup_destroy(keys.queue("cpu"), keys.GROUP)
    await queue.dispatch(run, 1, [offer()], 3)
    assert len(await taken(queue)) == 1


async def test_a_beat_tells_which_tasks_were_lost(queue: Queue) -> None:
    run = await opened(queue)
    await registered(queue)
    await queue.dispatch(run, 1, [offer("a"), offer("b")], 3)
    rights = await taken(queue, cpu=2)
    known, lost = await queue.beat("w1", LEASE, LEASE, [rights[0], Right(rights[1].task, 7, "n1")])
    assert known
    assert lost == [rights[1].task]
    assert await queue.beat("stranger", LEASE, LEASE, []) == (False, [])


async def test_a_dead_worker_leaves_no_slots(queue: Queue) -> None:
    await queue.register("w1", 0.0, "{}", {"cpu": 4})
    await registered(queue, "w2", cpu=1)
    await asyncio.sleep(0.01)
    assert (await queue.sweep(CRASHED, WAITED))[2] == 1
    assert await queue.client.hgetall(keys.SLOTS) == {"cpu": "1"}
    assert await queue.client.zrange(keys.WORKERS, 0, -1) == ["w2"]


async def test_ticks_reach_watchers_and_tell_a_worker_that_it_is_not_wanted(queue: Queue) -> None:
    run = await opened(queue)
    await registered(queue)
    await queue.dispatch(run, 1, [offer()], 3)
    (right,) = await taken(queue)
    assert await queue.tick(right, "a", "node.progress", '{"done":1,"total":2}', keep=True) == "ok"
    assert await queue.ticks(run) == {"a": {"done": 1, "total": 2}}
    await queue.finish(run, None, "cancelled", "{}")
    assert await queue.tick(right, "a", "node.progress", "{}", keep=True) == "ended"


async def test_empty_lists_survive_the_scripts(queue: Queue) -> None:
    run = await opened(queue)
    await registered(queue)
    await queue.dispatch(run, 1, [offer()], 3)
    (right,) = await taken(queue)
    value = {"list": [], "object": {}, "text": '"status":"failed"', "number": 1e300}
    await queue.commit(right, [done("a", value)], last=True)
    assert (await queue.ledger(run))["a"]["outputs"]["value"] == value
    (entry,) = await rows(queue, keys.drive("c1"))
    assert json.loads(entry[1]["outcomes"])["a"]["outputs"]["value"] == value


async def test_as_many_ask_at_once_as_like(queue: Queue) -> None:
    await opened(queue)
    found = await asyncio.gather(*(queue.run_fields("r1", "status") for _ in range(3000)))
    assert found == [["running"]] * 3000
