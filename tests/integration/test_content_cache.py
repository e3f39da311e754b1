"""The content cache with real processes: what was computed before is not computed again, by any worker."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from spindle_common import keys
from spindle_common.connection import connect
from spindle_control.client import Client
from support import kept_nodes
from support.cluster import Cluster, finished, running, wait_until, workflow
from support.redis_server import RedisServer

Json = dict[str, Any]
pytestmark = pytest.mark.timeout(300)


class Kept:
    """A cluster whose nodes leave a line each time that they run."""

    def __init__(self, cluster: Cluster, url: str, log: Path) -> None:
        self.cluster, self.url, self._log = cluster, url, log

    def ran(self) -> list[str]:
        """Nodes that ran since this was asked last."""
        lines = self.lines()
        self._log.write_text("")
        return lines

    def lines(self) -> list[str]:
        """The same, without forgetting them."""
        return sorted(self._log.read_text().split()) if self._log.exists() else []

    async def run(self, document: Json, inputs: Json | None = None) -> Json:
        """Run it to its end."""
        record = await finished(self.url, document, inputs)
        assert record["status"] == "completed", record.get("problem")
        return record

    async def redis(self, *command: Any) -> Any:
        client = connect(self.cluster.redis.url)
        try:
            return await client.execute_command(*command)
        finally:
            await client.aclose()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, own_redis: RedisServer) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("kept")
    log = folder / "log"
    settings: Json = {"SPINDLE_NODES": kept_nodes.__file__, "KEPT_LOG": str(log), "SPINDLE_CPU_SLOTS": "1"}
    with running(folder, own_redis, workers=2, **settings) as (cluster, (url,)):
        yield Kept(cluster, url, log)


@pytest.fixture
def kept(place: Kept) -> Kept:
    """Nothing has run, and two workers are there again, whomever the test before killed."""
    place.ran()
    alive = sum(process.alive for process in place.cluster.processes) - 1  # but the control
    for _ in range(2 - alive):
        place.cluster.worker()
    place.cluster.ready(place.url, 2)
    return place


def work(value: Any = None, **inputs: Any) -> Json:
    return {"type": "kept.work@1", "inputs": {"value": value, **inputs}}


def ref(text: str) -> Json:
    return {"$from": text}


def reused(record: Json) -> set[str]:
    return {id_ for id_, node in record["nodes"].items() if node.get("reused")}


async def test_a_second_run_computes_nothing(kept: Kept) -> None:
    document = workflow(
        {
            "a": work("second"),
            "b": work(ref("a.value"), in0=1),
            "c": {"type": "test.noop@1", "inputs": {"in0": ref("b.value")}},
        },
        outputs={"x": ref("b.value")},
    )
    first, second = await kept.run(document), await kept.run(document)
    assert kept.ran() == ["a", "b"]
    assert (reused(first), reused(second)) == (set(), {"a", "b"})
    assert first["outputs"] == second["outputs"] == {"x": "second"}


async def test_editing_one_node_runs_only_its_cone(kept: Kept) -> None:
    def big(edited: int) -> Json:
        nodes: Json = {}
        for chain in range(6):
            nodes[f"c{chain}n0"] = work(["cone", chain, edited if chain == 2 else 0])
            for at in range(1, 8):
                nodes[f"c{chain}n{at}"] = work([at, ref(f"c{chain}n{at - 1}.value")])
        nodes["join"] = work(0, **{f"in{chain}": ref(f"c{chain}n7.value") for chain in range(6)})
        return workflow(nodes)

    await kept.run(big(0))
    assert len(kept.ran()) == 49
    record = await kept.run(big(1))
    cone = sorted(["join", *(f"c2n{at}" for at in range(8))])
    assert kept.ran() == cone
    assert reused(record) == record["nodes"].keys() - set(cone)


async def test_handles_are_made_only_for_those_who_must_run(kept: Kept) -> None:
    def chain(word: str, suffix: str) -> Json:
        nodes = {
            "one": {"type": "kept.make@1", "inputs": {"word": word}},
            "two": {"type": "kept.make@1", "inputs": {"word": "b", "thing": ref("one.thing")}},
            "end": {"type": "kept.use@1", "inputs": {"thing": ref("two.thing"), "suffix": suffix}},
        }
        return workflow(nodes, outputs={"word": ref("end.word"), "length": ref("two.length")})

    first = await kept.run(chain("handles", "!"))
    assert kept.ran() == ["end", "one", "two"]
    again = await kept.run(chain("handles", "!"))
    assert kept.ran() == []
    assert again["outputs"] == first["outputs"] == {"word": "handles b!", "length": 2}
    assert reused(again) == {"one", "two", "end"}
    other = await kept.run(chain("handles", "?"))
    assert kept.ran() == ["end", "one", "two"], "handles live in memory only"
    assert (reused(other), other["outputs"]["word"]) == (set(), "handles b?")


async def test_what_names_bytes_is_reused_while_they_are_there(kept: Kept) -> None:
    document = workflow(
        {"a": {"type": "kept.file@1", "inputs": {"value": "bytes"}}, "b": work(ref("a.file"))},
        outputs={"f": ref("a.file")},
    )
    digest = (await kept.run(document))["outputs"]["f"]["digest"]
    await kept.run(document)
    assert kept.ran() == ["a", "b"]
    name = digest.removeprefix("sha256:")
    path = kept.cluster.folder / "artifacts" / "sha256" / name[:2] / name
    path.unlink()
    for worker in [process for process in kept.cluster.processes if process.log.name.startswith("spindle_worker")]:
        worker.stop()  # they have just seen these bytes, and may trust their eyes for a minute
    for _ in range(2):
        kept.cluster.worker()
    kept.cluster.ready(kept.url, 2)
    await kept.run(document)
    assert kept.ran() == ["a"], "what `b` names is there again when `b` looks"
    assert path.exists()


async def test_it_survives_an_emptied_redis(kept: Kept) -> None:
    document = workflow({"a": work("flush")})
    await kept.run(document)
    await kept.redis("FLUSHALL")
    wait_until(lambda: len(httpx.get(f"{kept.url}/api/v1/workers", timeout=60).json()["workers"]) >= 2)
    assert reused(await kept.run(document)) == {"a"}
    assert kept.ran() == ["a"]
    assert await kept.redis("KEYS", keys.cache("default", "kept.work@1") + "*"), "and stands in Redis again"


async def test_a_node_may_decline(kept: Kept) -> None:
    document = workflow({"a": work("declines") | {"cache": False}})
    for _ in range(2):
        assert reused(await kept.run(document)) == set()
    assert kept.ran() == ["a", "a"]


async def test_failures_are_not_kept(kept: Kept, tmp_path: Path) -> None:
    flag = tmp_path / "fails"
    flag.touch()
    document = workflow({"a": work("fails", fail=str(flag))})
    assert (await finished(kept.url, document))["status"] == "failed"
    flag.unlink()
    assert reused(await kept.run(document)) == set()
    assert kept.ran() == ["a", "a"]


async def test_twins_of_one_run_are_computed_once(kept: Kept) -> None:
    document = workflow({name: work("twins", seconds=0.3) for name in ("a", "b", "c")})
    record = await kept.run(document)
    assert len(kept.ran()) == 1
    assert len(reused(record)) == 2


async def started(client: Client, run: str, node: str) -> None:
    while (await client.get(run))["nodes"][node]["status"] != "running":
        await asyncio.sleep(0.02)


async def test_what_one_worker_computes_another_waits_for(kept: Kept) -> None:
    document = workflow({"a": work("flight", seconds=2.0)})
    async with Client(kept.url) as client:
        ids = [(await client.submit(document))["id"] for _ in range(2)]
        records = [await client.wait(run) for run in ids]
    assert kept.ran() == ["a"]
    assert [record["status"] for record in records] == ["completed"] * 2
    assert sorted(len(reused(record)) for record in records) == [0, 1]


async def holder(kept: Kept, task: str) -> Any:
    name = await kept.redis("HGET", keys.task(task), "worker")
    (process,) = [p for p in kept.cluster.processes if p.alive and re.search(f"worker {name}:", p.log.read_text())]
    return process


async def test_a_killed_leader_promotes_who_waits(kept: Kept, tmp_path: Path) -> None:
    hold = tmp_path / "hold"
    hold.touch()
    document = workflow({"a": work("killed", hold=str(hold))})
    async with Client(kept.url) as client:
        one = (await client.submit(document))["id"]
        await started(client, one, "a")
        others = [(await client.submit(document))["id"] for _ in range(3)]
        for run in others:
            while (await client.get(run))["nodes"]["a"]["status"] != "waiting":
                await asyncio.sleep(0.02)
        (await holder(kept, f"{one}/a")).kill()
        while len(kept.lines()) < 2:
            await asyncio.sleep(0.05)
        hold.unlink()
        records = [await client.wait(run) for run in (one, *others)]
    assert [record["status"] for record in records] == ["completed"] * 4
    assert kept.ran() == ["a", "a"], "the killed one, and one other"
