"""Each fault that chaos knows: what it breaks, for how long, and that it is mended afterwards.

A fault takes the arena and a source of chance. `uses` names what it lays its hands on: two faults that use the same
are never under way together, so that a fault's mending cannot undo another's breaking.
"""

import asyncio
import random
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import create_async_engine

from chaos.arena import CONTROL_LEASE, LEASE, Arena
from spindle_common import keys
from support.postgres import Postgres

Break = Callable[[Arena, random.Random], Awaitable[Any]]


@dataclass(frozen=True)
class Fault:
    """A way to break something."""

    name: str
    work: Break
    uses: frozenset[str]
    weight: int
    loses: bool = False


FAULTS: dict[str, Fault] = {}


def fault(name: str, *uses: str, weight: int = 2, loses: bool = False) -> Callable[[Break], Break]:
    """Describe a fault; `loses` says that runs in flight may end as `state-lost` by it."""

    def keep(work: Break) -> Break:
        FAULTS[name] = Fault(name, work, frozenset(uses), weight, loses)
        return work

    return keep


# Processes ----------------------------------------------------------------------------------------------------------


@fault("worker-kill", "workers", weight=4)
async def worker_kill(arena: Arena, rng: random.Random) -> None:
    """kill -9 one worker; another starts."""
    arena.kill_worker(rng.choice(arena.workers))
    arena.add_worker()
    await asyncio.sleep(rng.uniform(0, 2))


@fault("worker-stop", "workers", weight=3)
async def worker_stop(arena: Arena, rng: random.Random) -> None:
    """SIGSTOP a worker for longer than its lease: it comes back as a zombie."""
    worker = rng.choice(arena.workers)
    worker.signal(signal.SIGSTOP)
    await asyncio.sleep(LEASE + rng.uniform(1, 3))
    worker.signal(signal.SIGCONT)


@fault("worker-drain", "workers", weight=2)
async def worker_drain(arena: Arena, rng: random.Random) -> None:
    """SIGTERM a worker: it ends what it runs, or hands it back."""
    worker = rng.choice(arena.workers)
    arena.add_worker()
    arena.workers.remove(worker)
    await asyncio.to_thread(worker.stop, 240)


@fault("control-kill", "controls", "redis", weight=3)
async def control_kill(arena: Arena, rng: random.Random) -> None:
    """kill -9 a control; another starts."""
    arena.kill_control(rng.choice(arena.controls))
    await asyncio.to_thread(arena.add_control)


@fault("control-stop", "controls", "database", weight=3)
async def control_stop(arena: Arena, rng: random.Random) -> None:
    """SIGSTOP a control for longer than its lease: others adopt its runs, then it comes back."""
    control = rng.choice(arena.controls)
    control.process.signal(signal.SIGSTOP)
    await asyncio.sleep(CONTROL_LEASE + rng.uniform(1, 3))
    control.process.signal(signal.SIGCONT)


# Redis and the way to it --------------------------------------------------------------------------------------------


@fault("redis-kill", "redis", weight=3)
async def redis_kill(arena: Arena, rng: random.Random) -> None:
    """kill -9 Redis, start it again on its append-only file."""
    await arena.restart_redis(away=rng.uniform(0, 3))


@fault("redis-stop", "redis", weight=2)
async def redis_stop(arena: Arena, rng: random.Random) -> None:
    """SIGSTOP Redis: nothing answers, nothing is refused."""
    arena.pause_redis()
    await asyncio.sleep(rng.uniform(1, 8))
    arena.resume_redis()


@fault("worker-cut", "way-worker", weight=2)
async def worker_cut(arena: Arena, rng: random.Random) -> None:
    """Workers cannot reach Redis, for longer than their lease; what they sent arrives late."""
    arena.proxies["worker"].cut()
    await asyncio.sleep(LEASE + rng.uniform(0, 3))
    arena.proxies["worker"].heal()


@fault("worker-refuse", "way-worker", weight=2)
async def worker_refuse(arena: Arena, rng: random.Random) -> None:
    """Workers' connections are reset, for some seconds."""
    arena.proxies["worker"].refuse()
    await asyncio.sleep(rng.uniform(0.5, 3))
    arena.proxies["worker"].heal()


@fault("control-cut", "way-control", weight=2)
async def control_cut(arena: Arena, rng: random.Random) -> None:
    """Controls cannot reach Redis; workers can."""
    arena.proxies["control"].cut()
    await asyncio.sleep(CONTROL_LEASE + rng.uniform(0, 3))
    arena.proxies["control"].heal()


@fault("control-refuse", "way-control", weight=2)
async def control_refuse(arena: Arena, rng: random.Random) -> None:
    """Controls' connections are reset, for some seconds."""
    arena.proxies["control"].refuse()
    await asyncio.sleep(rng.uniform(0.5, 3))
    arena.proxies["control"].heal()


@fault("lag", "way-worker", "way-control", weight=2)
async def lag(arena: Arena, rng: random.Random) -> None:
    """Every piece between either plane and Redis is late."""
    for proxy in arena.proxies.values():
        proxy.lag(rng.uniform(0.01, 0.2))
    await asyncio.sleep(rng.uniform(2, 5))
    for proxy in arena.proxies.values():
        proxy.heal()


@fault("swallow", "way-worker", "way-control", weight=4)
async def swallow(arena: Arena, rng: random.Random) -> None:
    """Steps are carried out and their answers lost, again and again."""
    for _ in range(rng.randint(3, 8)):
        arena.proxies[rng.choice(("worker", "control"))].swallow(rng.randint(1, 3))
        await asyncio.sleep(rng.uniform(0.1, 0.6))
    for proxy in arena.proxies.values():
        proxy.heal()


@fault("lock", "database", weight=2)
async def lock(arena: Arena, rng: random.Random) -> None:
    """The database takes no writes for some seconds."""
    if arena.postgres:
        return await _lock_table(arena.postgres, rng.uniform(1, 6))
    database = sqlite3.connect(arena.folder / "spindle.db", timeout=10, isolation_level=None)
    try:
        database.execute("BEGIN IMMEDIATE")
        await asyncio.sleep(rng.uniform(1, 6))
        database.execute("ROLLBACK")
    finally:
        database.close()


async def _lock_table(postgres: Postgres, seconds: float) -> None:
    engine = create_async_engine(postgres.url)
    async with engine.begin() as connection:
        await connection.exec_driver_sql("LOCK TABLE runs IN EXCLUSIVE MODE")
        await asyncio.sleep(seconds)
    await engine.dispose()


@fault("database-kill", "database", "postgres", weight=3)
async def database_kill(arena: Arena, rng: random.Random) -> None:
    """PostgreSQL crashes; it starts again on what it had written."""
    assert arena.postgres
    await asyncio.to_thread(arena.postgres.stop)
    await asyncio.sleep(rng.uniform(0.5, 5))
    await asyncio.to_thread(arena.postgres.start)


@fault("database-cut", "database", "postgres", weight=3)
async def database_cut(arena: Arena, rng: random.Random) -> None:
    """Nothing passes between controls and PostgreSQL for some seconds, or every connection is closed."""
    way = arena.proxies["database"]
    rng.choice((way.cut, way.refuse))()
    await asyncio.sleep(rng.uniform(0.5, 6))
    way.heal()


@fault("database-answers-lost", "database", "postgres", weight=2)
async def database_answers_lost(arena: Arena, rng: random.Random) -> None:
    """What was written is written; who wrote it sees a closed connection."""
    arena.proxies["database"].swallow(rng.randint(1, 4))
    await asyncio.sleep(rng.uniform(0.5, 2))
    arena.proxies["database"].heal()


# The object store, where it is S3 -------------------------------------------------------------------------------------


@fault("store-away", "store", weight=2)
async def store_away(arena: Arena, rng: random.Random) -> None:
    """kill -9 the S3 server; it starts again where it was."""
    assert arena.store
    assert arena.store.gateway
    await asyncio.to_thread(arena.store.gateway.stop_gateway)
    await asyncio.sleep(rng.uniform(0.5, 4))
    await asyncio.to_thread(arena.store.gateway.start_gateway)


@fault("store-slow", "store", weight=2)
async def store_slow(arena: Arena, rng: random.Random) -> None:
    """The object store takes its time."""
    arena.proxies["store"].lag(rng.uniform(0.2, 1.0))
    await asyncio.sleep(rng.uniform(1, 4))
    arena.proxies["store"].heal()


@fault("store-torn", "store", weight=2)
async def store_torn(arena: Arena, rng: random.Random) -> None:
    """Uploads are torn on their way, and answers lost."""
    arena.proxies["store"].tear(rng.choice((300, 2_000, 60_000)))
    await asyncio.sleep(rng.uniform(0.5, 2))
    arena.proxies["store"].heal()
    arena.proxies["store"].swallow(rng.randint(1, 3))


# What Redis holds ---------------------------------------------------------------------------------------------------


@fault("repeat-entries", "redis", weight=3)
async def repeat_entries(arena: Arena, rng: random.Random) -> None:
    """Every task of every live run is offered once more, whatever its state: each message comes twice."""
    client = arena.client()
    try:
        async for key in client.scan_iter(f"{keys.PREFIX}task:*", count=1000):
            queue = await client.hget(key, "queue")
            if queue and await client.exists(keys.queue(queue)):
                await client.xadd(keys.queue(queue), {"task": key.removeprefix(f"{keys.PREFIX}task:")})
    finally:
        await client.aclose()


@fault("repeat-wakes", "redis", weight=2)
async def repeat_wakes(arena: Arena, rng: random.Random) -> None:
    """Every commit of every live run wakes its driver once more."""
    client = arena.client()
    try:
        async for key in client.scan_iter(f"{keys.PREFIX}ledger:*", count=1000):
            run = key.removeprefix(f"{keys.PREFIX}ledger:")
            owner, status = await client.hmget(keys.run(run), ["owner", "status"])
            ledger = await client.hgetall(key)
            ends = [f'"{path}":{text}' for path, text in ledger.items() if '"ended_at"' in text]
            if owner and status == "running" and ends:
                await client.xadd(keys.drive(owner), {"run": run, "outcomes": "{" + ",".join(ends) + "}"})
    finally:
        await client.aclose()


@fault("acknowledge", "redis", weight=1)
async def acknowledge(arena: Arena, rng: random.Random) -> None:
    """A stranger acknowledges every delivery: the pending list is no lock."""
    client = arena.client()
    try:
        async for key in client.scan_iter(f"{keys.PREFIX}queue:*"):
            for entry, _ in await client.xrange(key):
                await client.xack(key, keys.GROUP, entry)
    finally:
        await client.aclose()


@fault("no-group", "redis", weight=2)
async def no_group(arena: Arena, rng: random.Random) -> None:
    """The consumer groups are gone: NOGROUP."""
    client = arena.client()
    try:
        async for key in client.scan_iter(f"{keys.PREFIX}queue:*"):
            await client.xgroup_destroy(key, keys.GROUP)
    finally:
        await client.aclose()


@fault("flush", "redis", weight=1, loses=True)
async def flush(arena: Arena, rng: random.Random) -> None:
    """FLUSHALL."""
    client = arena.client()
    try:
        await client.flushall()
    finally:
        await client.aclose()


@fault("claim", "redis", weight=1)
async def claim(arena: Arena, rng: random.Random) -> None:
    """A zombie claims every pending entry for itself."""
    client = arena.client()
    try:
        async for key in client.scan_iter(f"{keys.PREFIX}queue:*"):
            if found := [entry for entry, _ in await client.xrange(key)]:
                await client.xclaim(key, keys.GROUP, f"zombie-{rng.randint(1, 9)}", 0, found)
    finally:
        await client.aclose()
