"""The one subscribing connection of a control, broken under its watchers: it comes back, who must range is told so."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from spindle_common import keys
from spindle_common.events import Hub, Interrupted, Subscription
from spindle_common.problems import Unavailable
from spindle_common.queue import Queue, compact
from spindle_common.stopping import stop
from support.proxy import Proxy
from support.redis_server import RedisServer


@pytest.fixture
def way(quiet_server: RedisServer) -> Iterator[Proxy]:
    """The hub's way to Redis; the test's own way is another."""
    proxy = Proxy("127.0.0.1", quiet_server.server.port)
    yield proxy
    proxy.close()


@pytest.fixture
async def hub(way: Proxy, quiet_server: RedisServer) -> AsyncIterator[Hub]:
    parts = urlsplit(quiet_server.url)
    made = Hub(parts._replace(netloc=f":{parts.password}@127.0.0.1:{way.port}").geturl())
    running = asyncio.create_task(made.run())
    yield made
    assert not running.done(), running.exception()
    await stop([running])
    await made.close()


async def tell(queue: Queue, run: str, number: int = 1) -> None:
    message = {"id": f"{number}-0", "type": "node.started", "node": "a", "attempt": 1, "data": {}}
    await queue.client.publish(keys.live(run), compact(message))


async def listeners(queue: Queue, run: str) -> int:
    ((_, count),) = await queue.client.pubsub_numsub(keys.live(run))
    return int(count)


async def patiently(hub: Hub, run: str) -> Subscription:
    """As a client that is told goodbye and comes again."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(Unavailable):
                return await hub.open(run)
            await asyncio.sleep(0.05)


async def test_watchers_come_and_go(hub: Hub, queue: Queue) -> None:
    first, second = await asyncio.gather(hub.open("r"), hub.open("r"))
    await tell(queue, "r", 1)
    assert [(await each.next())["id"] for each in (first, second)] == ["1-0", "1-0"]
    first.close()
    await tell(queue, "r", 2)
    assert (await second.next())["id"] == "2-0"
    second.close()
    third = await hub.open("r")
    await tell(queue, "r", 3)
    assert (await third.next())["id"] == "3-0"
    third.close()
    async with asyncio.timeout(60):
        while await listeners(queue, "r"):
            await asyncio.sleep(0.01)


async def test_the_hub_outlives_any_storm_of_lost_connections(hub: Hub, queue: Queue, way: Proxy) -> None:
    rng = random.Random(7)
    until = asyncio.get_running_loop().time() + 6

    async def watch(number: int) -> None:
        while asyncio.get_running_loop().time() < until:
            with contextlib.suppress(Unavailable):
                subscription = await hub.open(f"r{number}")
                await asyncio.sleep(rng.uniform(0, 0.02))
                subscription.close()
            await asyncio.sleep(rng.uniform(0, 0.02))

    async def tear() -> None:
        while asyncio.get_running_loop().time() < until:
            await asyncio.to_thread(way.refuse)
            await asyncio.to_thread(way.heal)
            await asyncio.sleep(rng.uniform(0, 0.1))

    await asyncio.gather(tear(), *(watch(number) for number in range(30)))
    subscription = await patiently(hub, "after")
    await tell(queue, "after")
    async with asyncio.timeout(60):
        assert (await subscription.next())["id"] == "1-0"


async def heard(subscription: Subscription) -> Any:
    try:
        return await subscription.next()
    except Interrupted as interrupted:
        return interrupted


async def test_who_must_range_again_is_told_when_new_messages_come_again(hub: Hub, queue: Queue, way: Proxy) -> None:
    """Ranging before the new subscription counts could miss what is published between the two."""
    subscription = await hub.open("r")
    way.refuse()
    async with asyncio.timeout(60):
        while await listeners(queue, "r"):
            await asyncio.sleep(0.01)
        await tell(queue, "r", 1)
        way.heal()
        while not await listeners(queue, "r"):
            await asyncio.sleep(0.001)
        await tell(queue, "r", 2)
        told = [await heard(subscription)]
        while isinstance(told[-1], Interrupted):
            told.append(await heard(subscription))
    assert told[-1]["id"] == "2-0"
    assert isinstance(told[-2], Interrupted)


async def test_who_opens_while_redis_is_away_is_refused_soon_and_served_later(
    hub: Hub, queue: Queue, way: Proxy
) -> None:
    way.refuse()
    async with asyncio.timeout(60):
        with pytest.raises(Unavailable):
            await hub.open("r")
    way.heal()
    subscription = await patiently(hub, "r")
    await tell(queue, "r")
    async with asyncio.timeout(60):
        assert (await subscription.next())["id"] == "1-0"


async def test_a_connection_that_confirms_nothing_is_given_up(
    hub: Hub, queue: Queue, way: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a machine between vanished without a word: nothing is refused, nothing comes."""
    monkeypatch.setattr("spindle_common.events._CONFIRM_SECONDS", 1.0)
    await hub.open("before")
    way.freeze()
    with pytest.raises(Unavailable):
        await hub.open("r")
    subscription = await patiently(hub, "r")
    await tell(queue, "r")
    async with asyncio.timeout(60):
        assert (await subscription.next())["id"] == "1-0"
