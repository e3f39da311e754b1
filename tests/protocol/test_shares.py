"""Lanes share as stride scheduling promises: at every prefix each tenant is within a task of its share."""

import pytest

from spindle_common.queue import Offer, Queue, Right

FIELDS: dict[str, str | int] = {"workflow": "{}", "inputs": "{}", "plan": "{}", "traceparent": ""}


async def backlog(queue: Queue, tenant: str, weight: int, count: int, run: str = "", priority: int = 0) -> None:
    run = run or tenant
    fields = FIELDS | {"tenant": tenant, "weight": weight, "priority": priority}
    await queue.open(run, status="running", owner="c1", epoch=1, fields=fields)
    await queue.dispatch(run, 1, [Offer(f"n{i:03}", "cpu", "{}", (f"n{i:03}",), ()) for i in range(count)], 3)


async def served(queue: Queue, count: int, start: int = 0) -> list[str]:
    """Take and end one task after the other; returns their names."""
    names = []
    for i in range(start, start + count):
        (taken,) = await queue.take("w1", f"n{i}", 30.0, {"cpu": 1})
        await queue.commit(Right(taken.task, taken.attempt, f"n{i}"), [], last=True)
        names.append(taken.task)
    return names


@pytest.mark.parametrize(("one", "other"), [(1, 1), (1, 3), (2, 5)])
async def test_shares_hold_at_every_prefix(queue: Queue, one: int, other: int) -> None:
    await backlog(queue, "one", one, 60)
    await backlog(queue, "other", other, 60)
    await queue.register("w1", 30.0, "{}", {"cpu": 1})
    names = await served(queue, 60)
    for length in range(1, 61):
        count = sum(name.startswith("one/") for name in names[:length])
        assert abs(count - length * one / (one + other)) <= 1, (length, names[:length])


async def test_a_tenant_that_returns_neither_gains_nor_starves(queue: Queue) -> None:
    await queue.register("w1", 30.0, "{}", {"cpu": 1})
    await backlog(queue, "steady", 1, 60)
    await served(queue, 20)
    await backlog(queue, "late", 1, 20)
    names = await served(queue, 22, start=20)
    late = [name.startswith("late/") for name in names]
    assert sum(late[:12]) >= 4, "it need not wait for what was there before"
    assert sum(late) <= 12, "what it did not use before is gone"


async def test_one_among_a_thousand_is_next_but_for_what_is_bound(queue: Queue) -> None:
    await queue.register("w1", 30.0, "{}", {"cpu": 1})
    await backlog(queue, "many", 1, 1000)
    await backlog(queue, "single", 1, 1)
    assert "single/n000" in await served(queue, 4)


async def test_within_a_tenant_priority_goes_first_then_who_came_first(queue: Queue) -> None:
    await backlog(queue, "t", 1, 3, run="low")
    await backlog(queue, "t", 1, 3, run="high", priority=5)
    await queue.register("w1", 30.0, "{}", {"cpu": 1})
    names = await served(queue, 6)
    assert names == [f"{run}/n00{i}" for run in ("high", "low") for i in range(3)]


async def test_a_queue_of_runs_is_shared_too(queue: Queue) -> None:
    for tenant, count in (("one", 6), ("other", 2)):
        for i in range(count):
            fields = FIELDS | {"tenant": tenant, "weight": 1, "priority": 0}
            await queue.open(f"{tenant}{i}", status="queued", owner="", epoch=0, fields=fields)
    order = [await queue.next_waiting() for _ in range(8)]
    assert set(order[:4]) == {"one0", "one1", "other0", "other1"}
    assert await queue.next_waiting() is None
