"""One flight at a time: of all who want the same, one computes and the others wait for it, holding nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from spindle_common import keys
from spindle_common.cache import Cache, Wanted
from spindle_common.problems import Crashed, TimedOut
from spindle_common.queue import NodeEnd, Queue, Right, compact, outcome_text
from spindle_worker.node import Context, OpenInputs, Outputs, node
from support.desk import Desk

Json = dict[str, Any]
RAN: list[str] = []
GATES: dict[str, asyncio.Event] = {}
FAILING: set[str] = set()
CRASHED, WAITED = Crashed().problem(), TimedOut().problem()


class WorkInputs(OpenInputs):
    value: Any = None


class WorkOutputs(Outputs):
    value: Any = None


@node("t.gated@1", queue="async", open_inputs="^in[a-z0-9_]*$")
async def gated(inputs: WorkInputs, ctx: Context) -> WorkOutputs:
    RAN.append(ctx.run)
    await GATES.setdefault(str(inputs.value), asyncio.Event()).wait()
    if ctx.run in FAILING:
        raise RuntimeError("as asked")
    return WorkOutputs(value=inputs.value)


@pytest.fixture
async def desks(queue: Queue, tmp_path: Path) -> AsyncIterator[Callable[..., Desk]]:
    RAN.clear()
    GATES.clear()
    FAILING.clear()
    made: list[Desk] = []

    def desk(name: str) -> Desk:
        made.append(Desk(queue.client, tmp_path, [gated.spec], name))  # type: ignore[attr-defined]
        return made[-1]

    yield desk
    for each in made:
        await each.close()


def nodes(value: str = "x", **more: Any) -> Json:
    return {"a": {"type": "t.gated@1", "inputs": {"value": value}, **more}}


async def begun(desk: Desk, run: str, nodes_: Json | None = None) -> "asyncio.Task[list[str]]":
    """Open a run and begin to work on it."""
    await desk.open(run)
    await desk.dispatch(run, nodes_ or nodes())
    return await resumed(desk)


async def resumed(desk: Desk) -> "asyncio.Task[list[str]]":
    """Take what there is, and work on it for a moment."""
    working = asyncio.create_task(desk.work())
    await asyncio.sleep(0.1)
    return working


async def leading(desks: Callable[..., Desk]) -> tuple[Desk, "asyncio.Task[list[str]]", Desk]:
    """One worker computes, two runs wait for it; returns them with another worker."""
    one, other = desks("w1"), desks("w2")
    working = await begun(one, "r1")
    for run in ("r2", "r3"):
        assert await (await begun(other, run)) == ["waiting"]
    assert RAN == ["r1"]
    return one, working, other


async def killed(working: "asyncio.Task[list[str]]") -> None:
    """End a worker's attempts without a word."""
    working.cancel()
    await asyncio.wait([working])


async def state(queue: Queue, run: str) -> str:
    return str(await queue.client.hget(keys.task(f"{run}/a"), "state"))


async def test_who_waits_holds_nothing_and_spends_no_budget(desks: Callable[..., Desk], queue: Queue) -> None:
    _, working, _ = await leading(desks)
    assert [await state(queue, run) for run in ("r1", "r2", "r3")] == ["running", "waiting", "waiting"]
    assert set(await queue.client.zrange(keys.LEASES, 0, -1)) == {"r1/a"}
    assert await queue.client.xlen(keys.queue("async")) == 1
    ledger = await queue.ledger("r2")
    assert (ledger["a"]["status"], ledger["a"]["reason"]) == ("waiting", "computed-elsewhere")
    fields = await queue.client.hgetall(keys.task("r2/a"))
    assert not fields.keys() & {"crash", "drain", "errors:a"}
    GATES["x"].set()
    await working


async def test_the_leaders_commit_wakes_all(desks: Callable[..., Desk], queue: Queue) -> None:
    _, working, other = await leading(desks)
    GATES["x"].set()
    assert await working == ["done"]
    assert [await state(queue, run) for run in ("r2", "r3")] == ["ready", "ready"]
    assert await other.work() == ["done", "done"]
    assert RAN == ["r1"]
    for run in ("r2", "r3"):
        assert (await queue.ledger(run))["a"]["reused"]
        kinds = [kind for kind, path, _ in await other.events(run) if path]
        assert kinds == ["node.queued", "node.started", "node.waiting", "node.started", "node.completed"]
    await quiet(queue)


async def quiet(queue: Queue) -> None:
    """Nothing of any flight is left behind."""
    for pattern in ("flight:*", "flights:*", "waiters:*", "timers"):
        assert await queue.client.keys(keys.PREFIX + pattern) == []


async def test_a_failure_wakes_the_next_one_only(desks: Callable[..., Desk], queue: Queue) -> None:
    _, working, other = await leading(desks)
    FAILING.update(("r1",))
    GATES["x"].set()
    assert await working == ["done"]
    assert [await state(queue, run) for run in ("r2", "r3")] == ["ready", "waiting"]
    assert await other.work() == ["done"]
    assert RAN == ["r1", "r2"]
    assert await other.work() == ["done"]
    assert RAN == ["r1", "r2"]
    assert (await queue.ledger("r3"))["a"]["reused"]
    await quiet(queue)


async def test_a_lapse_wakes_the_next(desks: Callable[..., Desk], queue: Queue) -> None:
    _, working, other = await leading(desks)
    await killed(working)
    await queue.client.zadd(keys.LEASES, {"r1/a": 1})
    await queue.sweep(CRASHED, WAITED)
    assert [await state(queue, run) for run in ("r1", "r2", "r3")] == ["ready", "ready", "waiting"]
    GATES["x"].set()
    while {"done"} != {await state(queue, run) for run in ("r1", "r2", "r3")}:
        await other.work()
    assert RAN == ["r1", "r2"], "the one that lapsed has to wait for the one that was promoted"
    await quiet(queue)


async def test_a_cancel_wakes_the_next(desks: Callable[..., Desk], queue: Queue) -> None:
    _, working, other = await leading(desks)
    await killed(working)
    await queue.finish("r1", None, "cancelled", "{}")
    assert [await state(queue, run) for run in ("r2", "r3")] == ["ready", "waiting"]
    await queue.finish("r2", None, "cancelled", "{}")
    assert await state(queue, "r3") == "ready", "who was to be next is gone as well"
    GATES["x"].set()
    assert await other.work() == ["done"]
    assert RAN == ["r1", "r3"]
    await quiet(queue)


@pytest.mark.parametrize("how", ["error", "drain"])
async def test_a_leader_that_is_handed_back_wakes_the_next(desks: Callable[..., Desk], queue: Queue, how: str) -> None:
    one, other = desks("w1"), desks("w2")
    await one.open("r1")
    await one.dispatch("r1", nodes())
    (attempt,) = await one.take()
    working = asyncio.create_task(attempt.run())
    await asyncio.sleep(0.1)
    assert await (await begun(other, "r2")) == ["waiting"]
    await queue.give_back(attempt.right, how, failed={"a": "{}"}, delay=60.0)
    assert await state(queue, "r2") == "ready"
    attempt.cancel()
    await working
    GATES["x"].set()
    assert await state(queue, "r1") == ("waiting" if how == "error" else "ready")
    assert "done" in await other.work()


async def test_who_is_cancelled_while_it_waits_leaves_nothing(desks: Callable[..., Desk], queue: Queue) -> None:
    _, working, _ = await leading(desks)
    for run in ("r2", "r3"):
        await queue.finish(run, None, "cancelled", "{}")
    assert await queue.client.keys(keys.PREFIX + "waiters:*") == []
    GATES["x"].set()
    assert await working == ["done"]
    await quiet(queue)


async def test_a_paused_run_is_passed_over(desks: Callable[..., Desk], queue: Queue) -> None:
    _, working, other = await leading(desks)
    await killed(working)
    await queue.pause("r2")
    await queue.finish("r1", None, "cancelled", "{}")
    assert [await state(queue, run) for run in ("r2", "r3")] == ["held", "ready"]
    GATES["x"].set()
    await other.work()
    await queue.resume("r2")
    assert await other.work() == ["done"]
    assert RAN == ["r1", "r3"]
    await quiet(queue)


async def test_twins_of_two_tasks_do_not_deadlock(desks: Callable[..., Desk], queue: Queue) -> None:
    """Each leads what the other one waits for."""
    one, other = desks("w1"), desks("w2")
    first = {
        **nodes("x"),
        "b": {"type": "t.gated@1", "inputs": {"value": "y", "in0": {"$from": "a.value"}}, "needs": ["a"]},
    }
    second = {
        "c": {"type": "t.gated@1", "inputs": {"value": "y", "in0": "x"}},
        "d": {**nodes("x")["a"], "needs": ["c"]},
    }
    for gate in "xy":
        GATES[gate] = asyncio.Event()
        GATES[gate].set()
    for desk, run, body in ((one, "r1", first), (other, "r2", second)):
        await desk.open(run)
        await desk.dispatch(run, body)
    while True:
        await asyncio.gather(one.work(), other.work())
        ledgers = [await queue.ledger(run) for run in ("r1", "r2")]
        if all(outcome["status"] == "completed" for ledger in ledgers for outcome in ledger.values()):
            break
    assert len(RAN) == 2
    await quiet(queue)


async def test_siblings_of_a_waiter_run_to_their_end(desks: Callable[..., Desk], queue: Queue) -> None:
    one, other = desks("w1"), desks("w2")
    working = await begun(one, "r1")
    GATES["free"] = asyncio.Event()
    GATES["free"].set()
    fork = {
        **nodes(),
        "b": nodes("free")["a"],
        "c": {"type": "t.gated@1", "inputs": {"value": "free", "in0": {"$from": "a.value"}}, "needs": ["a"]},
    }
    assert await (await begun(other, "r2", fork)) == ["waiting"]
    ledger = await queue.ledger("r2")
    assert {path: outcome["status"] for path, outcome in ledger.items()} == {
        "a": "waiting",
        "b": "completed",
        "c": "queued",
    }
    GATES["x"].set()
    await working
    assert await other.work() == ["done"]
    assert RAN == ["r1", "r2", "r2"]


async def test_timers_find_a_leader_that_died_unnoticed(desks: Callable[..., Desk], queue: Queue) -> None:
    _, working, other = await leading(desks)
    await queue.client.delete(*await queue.client.keys(keys.PREFIX + "flight:*"))  # as if a script had been cut short
    for run in ("r2", "r3"):
        await queue.client.zadd(keys.TIMERS, {f"{run}/a": 1})
    await queue.sweep(CRASHED, WAITED)
    assert [await state(queue, run) for run in ("r2", "r3")] == ["ready", "waiting"], "one leads again"
    GATES["x"].set()
    assert await other.work() == ["done"]
    assert await other.work() == ["done"]
    await working
    await quiet(queue)


async def test_a_waiters_timer_is_wound_again_while_its_leader_lives(desks: Callable[..., Desk], queue: Queue) -> None:
    _, working, _ = await leading(desks)
    await queue.client.zadd(keys.TIMERS, {"r2/a": 1})
    await queue.sweep(CRASHED, WAITED)
    assert await state(queue, "r2") == "waiting"
    assert (await queue.client.zscore(keys.TIMERS, "r2/a") or 0) > 1
    GATES["x"].set()
    await working


# The steps, repeated and refused -------------------------------------------------------------------------------------


async def held(desk: Desk, run: str) -> Right:
    await desk.open(run)
    await desk.dispatch(run, nodes())
    (attempt,) = await desk.take()
    return attempt.right


WANTED = Wanted("a", "t.gated@1:" + "0" * 64, fly=True)
DONE = NodeEnd("a", outcome_text("completed", outputs={"value": 1}), compact({}))


async def test_every_step_may_be_repeated(desks: Callable[..., Desk], queue: Queue) -> None:
    desk, cache = desks("w1"), Cache(queue.client)
    first, second = await held(desk, "r1"), await held(desk, "r2")
    for _ in range(2):
        assert (await cache.recall(first, [WANTED])).answers == ["lead"]
        assert (await cache.recall(second, [WANTED])).answers == ["wait"]
    assert await cache.wait(second, [WANTED]) == "ok"
    assert await cache.wait(second, [WANTED]) == "stale"
    for _ in range(2):
        assert await queue.commit(first, [DONE], last=True) in ("ok", "repeat")
    assert (await cache.recall(first, [WANTED])).refused == "repeat"
    assert await state(queue, "r2") == "ready"


async def test_who_lost_its_right_is_refused(desks: Callable[..., Desk], queue: Queue) -> None:
    cache, right = Cache(queue.client), await held(desks("w1"), "r1")
    stale = Right(right.task, right.attempt, "other")
    assert (await cache.recall(stale, [WANTED])).refused == "stale"
    assert await cache.found(stale, "a", DONE.outcome) == "stale"
    assert await cache.wait(stale, [WANTED]) == "stale"
    await queue.finish("r1", None, "cancelled", "{}")
    assert (await cache.recall(right, [WANTED])).refused == "ended"


async def test_who_waits_in_vain_goes_on_at_once(desks: Callable[..., Desk], queue: Queue) -> None:
    """Its leader ended between its look and its being handed back."""
    desk, cache = desks("w1"), Cache(queue.client)
    first, second = await held(desk, "r1"), await held(desk, "r2")
    await cache.recall(first, [WANTED])
    await cache.recall(second, [WANTED])
    await queue.commit(first, [DONE], last=True)
    await cache.wait(second, [WANTED])
    assert await state(queue, "r2") == "ready"
    await quiet(queue)


async def test_what_is_being_deleted_is_no_hit(desks: Callable[..., Desk], queue: Queue) -> None:
    desk, cache = desks("w1"), Cache(queue.client)
    first, second = await held(desk, "r1"), await held(desk, "r2")
    digest = "sha256:" + "a" * 64
    await cache.recall(first, [WANTED])
    end = NodeEnd("a", outcome_text("completed", outputs={"f": {"digest": digest}}), "{}")
    await queue.commit(first, [end], last=True)
    seconds, _ = await queue.client.time()
    await queue.client.zadd(keys.PREFIX + "deleting", {digest: seconds * 1000})
    assert (await cache.recall(second, [WANTED])).answers == ["lead"]
