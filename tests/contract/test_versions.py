"""The version before: what its script wrote is read, and its workers, by its own script, finish runs of this one."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from spindle_common import keys
from spindle_common.connection import connect
from spindle_common.problems import Crashed, TimedOut
from spindle_common.queue import NodeEnd, Offer, Queue, Right, outcome_text
from support.redis_server import RedisServer

V1 = (Path(__file__).parent / "golden" / "v1" / "redis" / "spindle.lua").read_text()
NEW: dict[str, str | int] = {
    "tenant": "t",
    "weight": 2,
    "priority": 0,
    "workflow": "{}",
    "inputs": "{}",
    "plan": "{}",
    "traceparent": "",
}
DONE = NodeEnd("a", outcome_text("completed", outputs={"value": 1}), "{}")
CRASHED, WAITED = Crashed().problem(), TimedOut().problem()


@pytest.fixture
async def old(queue: Queue, quiet_server: RedisServer) -> AsyncIterator[Any]:
    """Steps of the version before, with the arguments that it gave them."""
    client = connect(quiet_server.url)

    async def step(*args: str | int) -> Any:
        return await client.eval(V1, 0, *args)

    yield step
    await client.aclose()


async def opened_by_old(old: Any, status: str = "running") -> None:
    """Open a run as the version before did, with one task."""
    await old("open", "r", status, "c1" if status == "running" else "", 1, "t", 0, "{}", "{}", "{}", "")
    if status == "running":
        await old("dispatch", "r", 1, "a", "cpu", '{"n":1}', '["a"]', '["a"]', 3)


async def finished(queue: Queue) -> None:
    assert json.loads(await queue.client.hget(keys.ledger("r"), "a") or "{}")["status"] == "completed"
    assert await queue.finish("r", 1, "completed", "{}") == "ok"
    assert await queue.client.zcard(keys.LEASES) == 0
    assert await queue.client.exists("spindle:ready:cpu", "spindle:waiting") == 0


async def test_a_task_of_the_version_before_is_taken_and_committed(queue: Queue, old: Any) -> None:
    await opened_by_old(old)
    await queue.register("w1", 30.0, "{}", {"cpu": 1})
    (taken,) = await queue.take("w1", "n1", 30.0, {"cpu": 1})
    assert (taken.task, taken.attempt, taken.body) == ("r/a", 1, '{"n":1}')
    assert await queue.commit(Right("r/a", 1, "n1"), [DONE], last=True) == "ok"
    await finished(queue)


@pytest.mark.parametrize("taken", [False, True])
async def test_a_run_of_the_version_before_can_be_cancelled(queue: Queue, old: Any, taken: bool) -> None:
    await opened_by_old(old)
    if taken:
        await old("register", "w1", 30000, "{}", '{"cpu":1}')
        assert await old("take", "w1", "n1", 30000, "cpu", 1)
    assert await queue.finish("r", None, "cancelled", "{}") == "ok"
    assert await queue.client.keys("spindle:task:*") == []
    assert await queue.client.exists("spindle:ready:cpu") == 0


async def test_a_run_that_waited_before_the_upgrade_is_found(queue: Queue, old: Any) -> None:
    await opened_by_old(old, "queued")
    assert await queue.next_waiting() == "r"
    assert await queue.own("r", "c2", 2) == "owned"
    assert await queue.dispatch("r", 2, [Offer("a", "cpu", "{}", ("a",), ("a",))], 3) == "ok"
    assert await queue.client.exists("spindle:waiting") == 0


async def test_a_task_of_the_version_before_lapses_into_a_dead_letter(queue: Queue, old: Any) -> None:
    await opened_by_old(old)
    await old("register", "w1", 30000, "{}", '{"cpu":1}')
    for attempt in range(1, 4):
        (row,) = await old("take", "w1", f"n{attempt}", 0, "cpu", 1)
        assert row[1] == attempt
        await queue.client.zadd(keys.LEASES, {"r/a": 0})
        await queue.sweep(CRASHED, WAITED)
        for task in await queue.client.zrange(keys.TIMERS, 0, -1):
            await queue.client.zadd(keys.TIMERS, {str(task): 0})
        await queue.sweep(CRASHED, WAITED)
    (letter,) = await queue.dead_letters()
    assert (letter.fields["run"], letter.fields["tenant"]) == ("r", "t")
    assert len(json.loads(letter.fields["history"])) == 3


async def test_dead_letters_of_the_version_before_are_shown(queue: Queue) -> None:
    fields: Any = {"task": "r/a", "queue": "cpu", "attempt": "3", "problem": "{}"}
    await queue.client.xadd(keys.DEAD, fields)
    (letter,) = await queue.dead_letters()
    assert letter.fields == fields | {"run": "r", "tenant": "default", "paths": "[]", "history": "[]"}
    assert await queue.dead_letter(letter.id) == letter


async def test_an_old_worker_finishes_a_run_of_this_version(queue: Queue, old: Any) -> None:
    await queue.open("r", status="running", owner="c1", epoch=1, fields=NEW)
    await old("register", "w1", 30000, "{}", '{"cpu":1}')
    names = [f"n{i}" for i in range(5)]
    await queue.dispatch("r", 1, [Offer(name, "cpu", "{}", (name,), (name,)) for name in names], 3)
    for turn in range(12):
        for task, attempt, *_ in await old("take", "w1", f"t{turn}", 30000, "cpu", 1):
            right = task, attempt, f"t{turn}"
            path = task.partition("/")[2]
            assert await old("beat", "w1", 30000, 30000, *right) == [1]
            if (path, attempt) == ("n2", 1):
                assert await old("give_back", *right, "error", 0, path, "{}") == "ok"
            else:
                assert await old("commit", *right, "1", path, DONE.outcome, "{}") == "ok"
        await queue.sweep(CRASHED, WAITED)  # an old commit fills nothing up from the lanes: the next sweep does
    assert [o["status"] for o in (await queue.ledger("r")).values()] == ["completed"] * 5
    assert await queue.finish("r", 1, "completed", "{}") == "ok"
    assert await queue.client.exists("spindle:ready:cpu", "spindle:lane:cpu", "spindle:lane:cpu:t") == 0


async def test_an_old_worker_never_gets_a_task_whose_paths_it_would_get_wrong(queue: Queue, old: Any) -> None:
    """A body's nodes commit under a prefix of which it knows nothing; alone it takes the rest, however many wait."""
    await queue.open("r", status="running", owner="c1", epoch=1, fields=NEW)
    await old("register", "w1", 30000, "{}", '{"cpu":1}')
    body = [Offer(f"vars[{i}].a", "cpu", "{}", (f"vars[{i}].a",), (f"vars[{i}].a",), form="frames") for i in range(5)]
    plain = [Offer(name, "cpu", "{}", (name,), (name,)) for name in ("x", "y", "z")]
    await queue.dispatch("r", 1, [*body, *plain], 3)
    taken: list[str] = []
    for turn in range(12):
        for task, attempt, *_ in await old("take", "w1", f"t{turn}", 30000, "cpu", 1):
            taken.append(task)
            path = task.partition("/")[2]
            assert await old("commit", task, attempt, f"t{turn}", "1", path, DONE.outcome, "{}") == "ok"
        await queue.sweep(CRASHED, WAITED)
    assert taken == ["r/x", "r/y", "r/z"]
    await queue.register("w2", 30.0, "{}", {"cpu": 1})
    for turn in range(5):
        (got,) = await queue.take("w2", f"n{turn}", 30.0, {"cpu": 1})
        assert got.task == f"r/vars[{turn}].a", "in the order in which they came"
        end = NodeEnd(got.task.partition("/")[2], DONE.outcome, "{}")
        assert await queue.commit(Right(got.task, got.attempt, f"n{turn}"), [end], last=True) == "ok"
    assert {o["status"] for o in (await queue.ledger("r")).values()} == {"completed"}
    assert await queue.finish("r", 1, "completed", "{}") == "ok"
    assert await queue.client.xlen(keys.queue("cpu", "frames")) == 0
