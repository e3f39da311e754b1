"""What a collection and those who write bytes agree on: the steps, on a real server."""

import asyncio
import time

import pytest

from spindle_common import keys
from spindle_common.garbage import Garbage
from spindle_common.problems import Unavailable
from spindle_common.queue import NodeEnd, Offer, Queue, Right, compact, outcome_text

ONE, TWO = ("sha256:" + sign * 64 for sign in "ab")
FIELDS: dict[str, str | int | float] = {
    "tenant": "default",
    "weight": 1,
    "priority": 0,
    "workflow": "{}",
    "inputs": "{}",
    "plan": "{}",
    "traceparent": "",
}


@pytest.fixture
def garbage(queue: Queue) -> Garbage:
    return Garbage(queue.client)


def artifact(digest: str) -> str:
    return compact({"digest": digest, "media_type": "image/png", "size": 3})


def naming(digest: str) -> NodeEnd:
    outputs = f'{{"image":{artifact(digest)}}}'
    return NodeEnd("a", f'{{"status":"completed","outputs":{outputs}}}', f'{{"outputs":{outputs}}}')


async def a_task(queue: Queue) -> Right:
    await queue.open("r1", status="running", owner="c1", epoch=1, fields=FIELDS)
    await queue.register("w1", 30.0, "{}", {"cpu": 1})
    await queue.dispatch("r1", 1, [Offer("a", "cpu", "{}", ["a"], ["a"])], 3)
    (taken,) = await queue.take("w1", "n1", 30.0, {"cpu": 1})
    return Right(taken.task, taken.attempt, "n1")


async def test_what_nobody_names_is_executed_once(garbage: Garbage) -> None:
    await garbage.condemn("c", [ONE])
    assert await garbage.execute("c", TWO) == 0
    began = await garbage.execute("c", ONE)
    assert abs(began / 1000 - time.time()) < 30
    assert await garbage.execute("c", ONE) == 0


async def test_an_outcome_pardons(garbage: Garbage) -> None:
    right = await a_task(garbage)
    await garbage.condemn("c", [ONE, TWO])
    assert await garbage.commit(right, [naming(ONE)], last=True) == "ok"
    assert await garbage.execute("c", ONE) == 0
    assert await garbage.execute("c", TWO) > 0


@pytest.mark.parametrize("where", ["inputs", "workflow"])
async def test_opening_a_run_pardons_what_it_names(garbage: Garbage, where: str) -> None:
    await garbage.condemn("c", [ONE, TWO])
    named = FIELDS | {where: f'{{"photo":{artifact(ONE)}}}'}
    again = NodeEnd("a", outcome_text("completed", outputs={"image": {"digest": TWO}}), "{}")
    await garbage.open("r1", status="running", owner="c1", epoch=1, fields=named, reuse=[again])
    assert [await garbage.execute("c", digest) for digest in (ONE, TWO)] == [0, 0]


async def test_what_is_being_deleted_cannot_be_named_until_it_is_over(garbage: Garbage) -> None:
    right = await a_task(garbage)
    await garbage.condemn("c", [ONE])
    began = await garbage.execute("c", ONE)
    assert await garbage.commit(right, [naming(ONE)], last=True) == "deleting"
    assert (await garbage.ledger("r1"))["a"]["status"] == "running"
    with pytest.raises(Unavailable):
        await garbage.open(
            "r2", status="running", owner="c1", epoch=1, fields=FIELDS | {"inputs": f'{{"x":{artifact(ONE)}}}'}
        )
    await garbage.deleted(ONE, began - 1)  # of another, older deletion: not over
    assert await garbage.commit(right, [naming(ONE)], last=True) == "deleting"
    await garbage.deleted(ONE, began)
    assert await garbage.commit(right, [naming(ONE)], last=True) == "ok"


async def test_whoever_spares_keeps_every_collector_away(garbage: Garbage) -> None:
    await garbage.condemn("c", [ONE])
    await garbage.spare(ONE)
    assert await garbage.execute("c", ONE) == 0
    await garbage.condemn("c", [ONE])
    assert await garbage.execute("c", ONE) == 0, "for a while, also from the next condemnation"
    assert 0 < await garbage.client.pttl(keys.PREFIX + "spared") <= 600_000


async def test_sparing_waits_while_bytes_are_being_deleted(garbage: Garbage) -> None:
    await garbage.condemn("c", [ONE])
    began = await garbage.execute("c", ONE)
    sparing = asyncio.ensure_future(garbage.spare(ONE))
    await asyncio.sleep(0.3)
    assert not sparing.done()
    await garbage.deleted(ONE, began)
    await asyncio.wait_for(sparing, 60)


async def test_the_deletion_of_a_dead_collector_is_over_after_a_minute(garbage: Garbage) -> None:
    await garbage.condemn("c", [ONE])
    began = await garbage.execute("c", ONE)
    await garbage.client.zadd(keys.PREFIX + "deleting", {ONE: began - 30_000})
    sparing = asyncio.ensure_future(garbage.spare(ONE))
    await asyncio.sleep(0.3)
    assert not sparing.done(), "half a minute: it may be slow, not dead"
    await garbage.client.zadd(keys.PREFIX + "deleting", {ONE: began - 60_001})
    await asyncio.wait_for(sparing, 20)
    await garbage.condemn("c", [ONE])
    assert await garbage.execute("c", ONE) == 0, "it was spared"


async def test_a_frozen_collection_cannot_use_what_another_condemned(garbage: Garbage) -> None:
    right = await a_task(garbage)
    await garbage.condemn("frozen", [ONE])
    await garbage.commit(right, [naming(ONE)], last=True)
    await garbage.condemn("next", [ONE])
    assert await garbage.execute("frozen", ONE) == 0


async def test_one_collects_at_a_time_and_then_rests(garbage: Garbage) -> None:
    assert await garbage.last_collected() is None
    assert await garbage.collect("a", 30, 60)
    assert await garbage.collect("a", 30, 60), "a repeat after a lost reply"
    assert not await garbage.collect("b", 30, 0)
    assert await garbage.collecting("a", 30)
    assert not await garbage.collecting("b", 30)
    await garbage.collected("b", whole=True)
    assert await garbage.collecting("a", 30), "another's end is not ours"
    await garbage.collected("a", whole=True)
    assert not await garbage.collect("b", 30, 60), "one has just been"
    assert await garbage.collect("b", 30, 0)
    last = await garbage.last_collected()
    assert last is not None
    assert 0 <= await garbage.now() - last < 30_000
    await garbage.collected("b", whole=False)
    assert await garbage.last_collected() == last


async def test_a_silent_collector_is_succeeded(garbage: Garbage) -> None:
    assert await garbage.collect("a", 0.05, 0)
    async with asyncio.timeout(30):
        while not await garbage.collect("b", 30, 0):
            await asyncio.sleep(0.01)
    assert not await garbage.collecting("a", 30)


async def test_every_text_that_may_name_bytes_is_told(garbage: Garbage) -> None:
    digests = ["sha256:" + f"{n:064x}" for n in range(7)]
    fields = FIELDS | {"inputs": artifact(digests[0]), "workflow": artifact(digests[1])}
    await garbage.open("r1", status="running", owner="c1", epoch=1, fields=fields)
    await garbage.register("w1", 30.0, "{}", {"cpu": 1})
    await garbage.dispatch("r1", 1, [Offer("a", "cpu", artifact(digests[2]), ["a"], ["a"])], 3)
    (taken,) = await garbage.take("w1", "n1", 30.0, {"cpu": 1})
    end = NodeEnd("a", naming(digests[3]).outcome, artifact(digests[4]))
    await garbage.commit(Right(taken.task, 1, "n1"), [end], last=False)
    await garbage.client.xadd(keys.DEAD, {"problem": artifact(digests[5])})
    for number in range(1500):  # more than a page, of keys and of fields
        await garbage.client.hset(keys.ledger(f"x{number}"), "a", "{}")
    await garbage.client.hset(keys.ledger("big"), mapping={str(n): "{}" for n in range(2000)})
    await garbage.client.hset(keys.ledger("big"), "last", artifact(digests[6]))
    text = " ".join([text async for text in garbage.texts()])
    assert [digest for digest in digests if digest not in text] == []
