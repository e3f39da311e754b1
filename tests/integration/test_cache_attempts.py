"""Attempts and the content cache, on a real Redis and a real folder: what is looked for, found, kept, waited for."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest

from spindle_common import keys
from spindle_common.problems import Crashed, TimedOut
from spindle_common.queue import Queue
from spindle_worker.node import Artifact, Context, Field, Handle, Inputs, Media, OpenInputs, Outputs, node
from support.desk import Desk

Json = dict[str, Any]
Thing = Annotated[Any, Handle("thing")]
Blob = Annotated[Artifact, Media("application/octet-stream")]
RAN: list[str] = []
GATES: dict[str, asyncio.Event] = {}
_OPEN: dict[str, Any] = {"queue": "async", "open_inputs": "^in[a-z0-9_]*$"}
CRASHED, WAITED = Crashed().problem(), TimedOut().problem()


class WorkInputs(OpenInputs):
    value: Any = None
    gate: str | None = None
    fail: bool = False
    seed: int | None = Field(None)


class WorkOutputs(Outputs):
    value: Any = None


async def _work(inputs: WorkInputs, ctx: Context) -> WorkOutputs:
    RAN.append(f"{ctx.run}.{ctx.node}")
    if inputs.gate:
        await GATES[inputs.gate].wait()
    if inputs.fail or (inputs.gate and inputs.gate.startswith("fail")):
        raise RuntimeError("as asked")
    return WorkOutputs(value=inputs.value)


class PlainInputs(OpenInputs):
    value: Any = None
    gate: str | None = None
    fail: bool = False


@node("t.work@1", **_OPEN)
async def work(inputs: PlainInputs, ctx: Context) -> WorkOutputs:
    return await _work(inputs, ctx)  # type: ignore[arg-type]


@node("t.seeded@1", **_OPEN)
async def seeded(inputs: WorkInputs, ctx: Context) -> WorkOutputs:
    return await _work(inputs, ctx)


@node("t.random@1", deterministic=False, **_OPEN)
async def random(inputs: PlainInputs, ctx: Context) -> WorkOutputs:
    return await _work(inputs, ctx)  # type: ignore[arg-type]


class FileOutputs(Outputs):
    file: Blob


@node("t.file@1", **_OPEN)
async def file(inputs: PlainInputs, ctx: Context) -> FileOutputs:
    await _work(inputs, ctx)  # type: ignore[arg-type]
    return FileOutputs(file=ctx.artifacts.write(str(inputs.value).encode(), "application/octet-stream"))


class MakeInputs(OpenInputs):
    word: str
    thing: Thing | None = None


class MakeOutputs(Outputs):
    thing: Thing
    length: int


@node("t.make@1", **_OPEN)
async def make(inputs: MakeInputs, ctx: Context) -> MakeOutputs:
    RAN.append(f"{ctx.run}.{ctx.node}")
    if inputs.word == "fails":
        raise RuntimeError("as asked")
    words = [*(inputs.thing or []), inputs.word]
    return MakeOutputs(thing=words, length=len(words))


class UseInputs(Inputs):
    thing: Thing
    suffix: str = ""


@node("t.use@1", queue="async")
async def use(inputs: UseInputs, ctx: Context) -> WorkOutputs:
    RAN.append(f"{ctx.run}.{ctx.node}")
    return WorkOutputs(value=" ".join(inputs.thing) + inputs.suffix)


NODES: list[Any] = [work, seeded, random, file, make, use]
SPECS = [function.spec for function in NODES]


@pytest.fixture
async def desks(queue: Queue, tmp_path: Path) -> AsyncIterator[Callable[..., Desk]]:
    RAN.clear()
    made: list[Desk] = []

    def desk(name: str = "w1", **more: Any) -> Desk:
        made.append(Desk(queue.client, tmp_path, SPECS, name, **more))
        return made[-1]

    yield desk
    for each in made:
        await each.close()


@pytest.fixture
def desk(desks: Callable[..., Desk]) -> Desk:
    return desks()


def ref(text: str) -> Json:
    return {"$from": text}


def job(type_: str, *needs: str, **inputs: Any) -> Json:
    return {"type": f"t.{type_}@1", "inputs": inputs, "needs": list(needs)}


def ran() -> list[str]:
    found = list(RAN)
    RAN.clear()
    return found


def reused(ledger: Json) -> list[str]:
    return [path for path, outcome in ledger.items() if outcome.get("reused")]


async def test_what_was_computed_is_committed_again(desk: Desk) -> None:
    nodes = {"a": job("work", value=[1, {}]), "b": job("work", "a", value=ref("a.value"), in0=1)}
    first = await desk.run("r1", nodes)
    second = await desk.run("r2", nodes)
    assert ran() == ["r1.a", "r1.b"]
    assert reused(first) == []
    assert reused(second) == ["a", "b"]
    assert {path: o["outputs"] for path, o in second.items()} == {"a": {"value": [1, {}]}, "b": {"value": [1, {}]}}
    ends = [(node_, data) for kind, node_, data in await desk.events("r2") if kind == "node.completed"]
    assert ends == [(path, {"outputs": {"value": [1, {}]}, "reused": True}) for path in ("a", "b")]
    assert await desk.cache.counts("default") == (2, 2)


async def test_who_does_not_use_the_cache_neither_looks_nor_keeps(desks: Callable[..., Desk]) -> None:
    off, on = desks("off", caches=False), desks("on")
    nodes = {"a": job("work", value=1)}
    await off.run("r1", nodes)
    await on.run("r2", nodes)
    assert reused(await off.run("r3", nodes)) == []
    assert ran() == ["r1.a", "r2.a", "r3.a"]


async def test_what_is_drawn_declined_or_not_deterministic_is_computed_each_time(desk: Desk) -> None:
    nodes = {
        "drawn": job("seeded", value=1),
        "random": job("random", value=1),
        "declined": job("work", value=1) | {"cache": False},
        "given": job("seeded", value=1, seed=7),
    }
    await desk.run("r1", nodes)
    ran()
    assert reused(await desk.run("r2", nodes)) == ["given"]
    assert sorted(ran()) == ["r2.declined", "r2.drawn", "r2.random"]


async def test_what_reads_a_secret_is_not_kept(desks: Callable[..., Desk]) -> None:
    desk = desks(secrets=lambda name: f"secret {name}")
    nodes = {
        "open": job("work", value={"$secret": "x"}),
        "make": job("make", word={"$secret": "x"}),
        "use": job("use", "make", thing=ref("make.thing")),
    }
    for run in ("r1", "r2"):
        assert reused(await desk.run(run, nodes)) == []
    assert len(ran()) == 6
    assert await desk.queue.client.keys("spindle:cache*") == []
    assert [each async for each in desk.store.on_shelf("")] == []


async def test_tenants_do_not_share(desk: Desk) -> None:
    nodes = {"a": job("work", value=1)}
    await desk.run("r1", nodes, "acme")
    assert reused(await desk.run("r2", nodes, "other")) == []
    assert reused(await desk.run("r3", nodes, "acme")) == ["a"]


async def test_a_failure_is_not_kept(desk: Desk) -> None:
    nodes = {"a": job("work", fail=True)}
    for run in ("r1", "r2"):
        assert (await desk.run(run, nodes))["a"]["status"] == "failed"
    assert ran() == ["r1.a", "r2.a"]


# Bytes and the object store ------------------------------------------------------------------------------------------


async def test_the_object_store_has_it_when_redis_was_emptied(desk: Desk, queue: Queue) -> None:
    nodes = {
        "a": job("work", value="a"),
        "make": job("make", word="x"),
        "b": job("work", "make", value=ref("make.length")),
    }
    await desk.run("r1", nodes)
    await desk.content.close()  # type: ignore[union-attr]
    await queue.client.flushall()
    ran()
    assert sorted(reused(await desk.run("r2", nodes))) == ["a", "b", "make"]
    assert ran() == []
    assert len(await queue.client.keys("spindle:cache:*")) == 3, "Redis has it again"
    assert await desk.cache.counts("default") == (3, 0)


async def test_a_torn_entry_is_a_miss(desk: Desk, queue: Queue) -> None:
    nodes = {"a": job("work", value=1)}
    await desk.run("r1", nodes)
    await desk.content.close()  # type: ignore[union-attr]
    (entry,) = [each async for each in desk.store.on_shelf("cache/default/")]
    for torn in (b"", b'{"status":"comp', b"[]", b'{"outputs":1}', b"\xff"):
        await desk.store.shelve(entry.name, torn)
        await queue.client.flushall()
        assert reused(await desk.run("r2", nodes)) == []
        await desk.content.close()  # type: ignore[union-attr]  # else its own entry may come after the next torn one


async def test_an_entry_whose_bytes_are_gone_is_forgotten(desk: Desk, desks: Callable[..., Desk]) -> None:
    nodes = {"a": job("file", value="x"), "b": job("work", "a", value=ref("a.file"))}
    first = await desk.run("r1", nodes)
    await desk.store.delete(first["a"]["outputs"]["file"]["digest"])
    other = desks("other")  # the first one has just seen them
    assert reused(await other.run("r2", nodes)) == ["b"]
    assert ran() == ["r1.a", "r1.b", "r2.a"]
    assert await desk.cache.counts("default") == (1, 3)


async def test_what_was_not_committed_is_not_kept(desk: Desk) -> None:
    GATES["late"] = asyncio.Event()
    await desk.open("r1")
    await desk.dispatch("r1", {"a": job("work", value=1, gate="late")})
    (attempt,) = await desk.take()
    running = asyncio.ensure_future(attempt.run())
    while not RAN:
        await asyncio.sleep(0.01)
    await desk.queue.finish("r1", None, "cancelled", "{}")
    GATES["late"].set()
    assert await running == "unwanted"
    await desk.content.close()  # type: ignore[union-attr]
    assert [each async for each in desk.store.on_shelf("")] == []
    assert await desk.queue.client.keys("spindle:cache:*") == []


async def test_a_slow_object_store_holds_up_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    shelve, slow = desk.store.shelve, asyncio.Event()

    async def slowly(name: str, data: bytes) -> None:
        await slow.wait()
        await shelve(name, data)

    monkeypatch.setattr(desk.store, "shelve", slowly)
    nodes = {"a": job("work", value=1), "b": job("work", "a", value=ref("a.value"), in0=1)}
    await desk.run("r1", nodes)
    assert reused(await desk.run("r2", nodes)) == ["a", "b"], "Redis has it"
    slow.set()
    await desk.content.close()  # type: ignore[union-attr]
    assert len([each async for each in desk.store.on_shelf("")]) == 2


async def test_long_outcomes_live_in_the_object_store_only(desk: Desk, queue: Queue) -> None:
    nodes = {"a": job("work", value="x" * 40_000), "b": job("work", value="y" * 100_000)}
    await desk.run("r1", nodes)
    assert sorted(reused(second := await desk.run("r2", nodes))) == ["a", "b"]
    assert second["b"]["outputs"]["value"].keys() == {"$spilled"}
    assert len(await queue.client.keys("spindle:cache:*")) == 1, "of the spilled one the mark is short"
    assert len(ran()) == 2


async def test_a_hit_keeps_collectors_away_from_its_bytes(desk: Desk, queue: Queue) -> None:
    nodes = {"a": job("file", value="x")}
    digest = (await desk.run("r1", nodes))["a"]["outputs"]["file"]["digest"]
    await queue.client.delete(keys.PREFIX + "spared")
    await desk.run("r2", nodes)
    assert await queue.client.zscore(keys.PREFIX + "spared", digest)


# Handles -------------------------------------------------------------------------------------------------------------


def chain(suffix: str, word: str = "a") -> Json:
    return {
        "one": job("make", word=word),
        "two": job("make", "one", word="b", thing=ref("one.thing")),
        "end": job("use", "two", thing=ref("two.thing"), suffix=suffix),
    }


async def test_a_chain_of_handles_that_nobody_needs_is_not_made(desk: Desk) -> None:
    await desk.run("r1", chain("!"))
    assert ran() == ["r1.one", "r1.two", "r1.end"]
    ledger = await desk.run("r2", chain("!"))
    assert ran() == []
    assert reused(ledger) == ["one", "two", "end"]
    assert ledger["two"]["outputs"] == {"length": 2}
    ends = [node_ for kind, node_, _ in await desk.events("r2") if kind == "node.completed"]
    assert ends == ["one", "two", "end"]


async def test_handles_are_made_when_their_consumer_must_run(desk: Desk) -> None:
    await desk.run("r1", chain("!"))
    ran()
    ledger = await desk.run("r2", chain("?"))
    assert ran() == ["r2.one", "r2.two", "r2.end"]
    assert reused(ledger) == []
    assert ledger["end"]["outputs"] == {"value": "a b?"}


async def test_only_the_handles_that_are_needed_are_made(desk: Desk) -> None:
    def fork(one: str, other: str) -> Json:
        return chain(one) | {
            "three": job("make", word="c"),
            "fin": job("use", "three", thing=ref("three.thing"), suffix=other),
        }

    await desk.run("r1", fork("!", "!"))
    ran()
    ledger = await desk.run("r2", fork("!", "?"))
    assert ran() == ["r2.three", "r2.fin"]
    assert sorted(reused(ledger)) == ["end", "one", "two"]


async def test_two_consumers_share_what_is_made_for_them(desk: Desk) -> None:
    def two(suffix: str) -> Json:
        return chain(suffix) | {"fin": job("use", "two", thing=ref("two.thing"), suffix=suffix * 2)}

    await desk.run("r1", two("!"))
    ran()
    await desk.run("r2", two("?"))
    assert sorted(ran()) == ["r2.end", "r2.fin", "r2.one", "r2.two"]


async def test_a_maker_that_fails_the_second_time_fails_who_needs_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.run("r1", chain("!", "word"))

    async def fails(inputs: MakeInputs, ctx: Context) -> MakeOutputs:
        raise RuntimeError("no more")

    spec = make.spec  # type: ignore[attr-defined]
    monkeypatch.setitem(desk._equipment.specs, "t.make@1", _with(spec, fails))
    ledger = await desk.run("r2", chain("?", "word"))
    assert {path: outcome["status"] for path, outcome in ledger.items()} == {
        "one": "completed",
        "two": "completed",
        "end": "failed",
    }


def _with(spec: Any, function: Any) -> Any:
    """The same type, named by the same code, that does something else."""
    assert inspect.getsourcefile(function) == inspect.getsourcefile(spec.function)
    return replace(spec, function=function)


async def test_a_later_attempt_makes_handles_again_for_what_is_left(desk: Desk) -> None:
    GATES["fail1"] = asyncio.Event()
    GATES["fail1"].set()
    nodes = chain("!") | {
        "bad": job("work", "two", value=ref("two.length"), gate="fail1") | {"max_attempts": 2, "backoff": 0.0}
    }
    await desk.open("r1")
    await desk.dispatch("r1", nodes)
    assert await desk.work() == ["retried"]
    first = ran()
    assert (first[:2], sorted(first[2:])) == (["r1.one", "r1.two"], ["r1.bad", "r1.end"])
    assert await desk.work() == ["done"]
    assert ran() == ["r1.bad"], "nobody needs the handles any more"
    ledger = await desk.queue.ledger("r1")
    assert [o["status"] for o in ledger.values()] == ["completed", "completed", "completed", "failed"]
