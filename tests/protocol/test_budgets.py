"""How long a task may wait, how often it may be tried, and what becomes of it then; by a clock that the test sets."""

import json
from typing import Any

import pytest

from spindle_common import keys
from spindle_common.problems import Crashed, TimedOut
from spindle_common.queue import NodeEnd, Offer, Queue, Right, compact, outcome_text
from support.virtual_time import Clock, settable

FIELDS: dict[str, str | int | float] = {
    "tenant": "acme",
    "weight": 1,
    "priority": 0,
    "workflow": "{}",
    "inputs": "{}",
    "plan": "{}",
    "traceparent": "",
}
SPENT, WAITED = Crashed("spent").problem(), TimedOut("waited").problem()


class Bench:
    """One run at epoch 1, one worker with one slot, and a clock."""

    def __init__(self, client: Any) -> None:
        self.queue, self.clock = Queue(client, script=settable()), Clock(client)
        self._takes = 0

    async def open(self, crash_budget: int = 3, patience: float = 0.0) -> None:
        await self.clock.advance(0)
        await self.queue.open("r", status="running", owner="c", epoch=1, fields=FIELDS)
        await self.queue.register("w", 1e6, "{}", {"cpu": 1})
        await self.queue.dispatch("r", 1, [Offer("a", "cpu", "{}", ["a"], ["a"], patience)], crash_budget)

    async def take(self) -> Right | None:
        self._takes += 1
        nonce = f"n{self._takes}"
        rows = await self.queue.take("w", nonce, 10.0, {"cpu": 1})
        return Right(rows[0].task, rows[0].attempt, nonce) if rows else None

    async def after(self, seconds: float) -> Right | None:
        """Let time go by and sweep; then take what may be taken."""
        await self.clock.advance(int(seconds * 1000))
        await self.queue.sweep(SPENT, WAITED)
        return await self.take()

    async def node(self) -> dict[str, Any]:
        return (await self.queue.ledger("r"))["a"]


@pytest.fixture
def bench(client: Any) -> Bench:
    return Bench(client)


async def test_what_nobody_takes_in_its_time_fails(bench: Bench) -> None:
    await bench.open(patience=5.0)
    await bench.queue.unregister("w")
    await bench.clock.advance(4900)
    await bench.queue.sweep(SPENT, WAITED)
    assert (await bench.node())["status"] == "queued"
    await bench.clock.advance(200)
    await bench.queue.sweep(SPENT, WAITED)
    assert (await bench.node())["problem"]["type"] == WAITED["type"]
    assert await bench.queue.dead_letters() == [], "it never ran, so there is nothing to look into"


async def test_what_was_taken_in_time_may_take_its_time(bench: Bench) -> None:
    await bench.open(patience=5.0)
    right = await bench.take()
    await bench.clock.advance(8000)
    await bench.queue.sweep(SPENT, WAITED)
    assert right
    assert (await bench.node())["status"] == "running"


async def test_crashes_wait_longer_each_time_until_their_budget_is_spent(bench: Bench) -> None:
    await bench.open(crash_budget=5)
    assert await bench.take()
    assert await bench.after(10.1), "the first is tried again at once"
    for waits in (1, 2, 4):
        assert await bench.after(10.1) is None
        assert await bench.after(waits - 0.2) is None
        assert await bench.after(0.3)
    assert await bench.after(10.1) is None
    (letter,) = await bench.queue.dead_letters()
    past = json.loads(letter.fields["history"])
    assert [(each["attempt"], each["cause"], each["worker"]) for each in past] == [
        (n, "crash", "w") for n in range(1, 6)
    ]
    assert (letter.fields["tenant"], letter.fields["run"], letter.fields["attempt"]) == ("acme", "r", "5")
    assert (await bench.node())["problem"]["type"] == SPENT["type"]


async def test_drains_cost_no_crash_but_have_a_budget_too(bench: Bench) -> None:
    await bench.open(crash_budget=2)
    for _ in range(99):
        right = await bench.take()
        assert right
        assert await bench.queue.give_back(right, "drain", spent=compact(SPENT)) == "ok"
    assert (await bench.node())["status"] == "queued"
    right = await bench.take()
    assert right
    await bench.queue.give_back(right, "drain", spent=compact(SPENT))
    assert (await bench.node())["status"] == "failed"


async def test_a_paused_run_keeps_what_waits_for_its_delay(bench: Bench) -> None:
    await bench.open()
    right = await bench.take()
    assert right
    await bench.queue.give_back(right, "error", delay=2.0, failed={"a": "{}"})
    assert await bench.queue.pause("r") == "paused"
    assert await bench.after(3) is None
    assert await bench.queue.resume("r") == "resumed"
    again = await bench.take()
    assert again
    assert again.attempt == 2
    end = NodeEnd("a", outcome_text("completed", outputs={}), "{}")
    assert await bench.queue.commit(again, [end], last=True) == "ok"


@pytest.mark.parametrize("lost", ["lease", "lane", "entry", "timer"])
async def test_an_audit_puts_a_task_where_its_state_says(bench: Bench, lost: str) -> None:
    await bench.open()
    client = bench.queue.client
    if lost == "lease":
        await bench.take()
        await client.delete(keys.LEASES)
    elif lost == "timer":
        right = await bench.take()
        assert right
        await bench.queue.give_back(right, "error", delay=60.0, failed={"a": "{}"})
        await client.delete(keys.TIMERS)
    elif lost == "entry":
        await client.delete(keys.queue("cpu"))
    else:
        await client.hset(keys.task("r/a"), "entry", "")
        await client.delete(keys.queue("cpu"))
    assert await bench.queue.audit("r", 1) == 1
    assert await bench.after(0.1), "it can be taken again"
    assert await bench.queue.audit("r", 1) == 0
