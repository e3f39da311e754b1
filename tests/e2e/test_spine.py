"""The whole path on real processes: a document goes in by HTTP, events come out, the result is there."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from spindle_control.client import Client, SpindleProblem
from support.cluster import Cluster, finished, running, workflow
from support.redis_server import RedisServer


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, own_redis: RedisServer) -> Iterator[tuple[Cluster, str]]:
    with running(tmp_path_factory.mktemp("spine"), own_redis) as (cluster, (url,)):
        yield cluster, url


@pytest.fixture
def url(cluster: tuple[Cluster, str]) -> str:
    return cluster[1]


def noop(value: Any = None, *, needs: str = "", **fields: Any) -> dict[str, Any]:
    joined = {"in0": {"$from": f"{needs}.value"}} if needs else {}
    return {"type": "test.noop@1", "inputs": {"value": value, **joined}, **fields}


def chain(length: int) -> dict[str, Any]:
    nodes = {"n0": noop(0)}
    for i in range(1, length):
        nodes[f"n{i}"] = noop({"$expr": f"n{i - 1}.value + 1"})
    return nodes


async def test_a_chain_gives_its_last_value(url: str) -> None:
    run = await finished(url, workflow(chain(10), outputs={"last": {"$from": "n9.value"}}))
    assert run["status"] == "completed"
    assert run["outputs"] == {"last": 9}
    assert {node["status"] for node in run["nodes"].values()} == {"completed"}


async def test_inputs_defaults_and_joins(url: str) -> None:
    nodes = {
        "a": noop({"$from": "inputs.word"}),
        "b": noop({"$expr": "inputs.count * 2"}),
        "join": {"type": "test.noop@1", "inputs": {"in_a": {"$from": "a.value"}, "value": {"$from": "b.value"}}},
    }
    document = workflow(
        nodes,
        inputs={"word": {"type": "string", "default": "hi"}, "count": {"type": "integer"}},
        outputs={"word": {"$from": "a.value"}, "twice": {"$from": "join.value"}},
    )
    run = await finished(url, document, {"count": 21})
    assert run["outputs"] == {"word": "hi", "twice": 42}


async def test_branches_that_are_not_taken_are_skipped(url: str) -> None:
    nodes = {
        "big": noop("big", when="inputs.n > 10"),
        "small": noop("small", when="inputs.n <= 10"),
        "after_big": noop(1, needs="big"),
        "either": noop({"$first": [{"$from": "big.value"}, {"$from": "small.value"}]}),
    }
    document = workflow(nodes, inputs={"n": {"type": "integer"}}, outputs={"size": {"$from": "either.value"}})
    run = await finished(url, document, {"n": 3})
    assert run["outputs"] == {"size": "small"}
    assert {name: node["status"] for name, node in run["nodes"].items()} == {
        "big": "skipped",
        "small": "completed",
        "after_big": "skipped",
        "either": "completed",
    }
    assert run["nodes"]["big"]["reason"] == "when-false"
    assert run["nodes"]["after_big"]["reason"] == "input-skipped"


async def test_a_failure_fails_the_run_and_leaves_siblings_running(url: str) -> None:
    nodes = {
        "bad": {"type": "test.fail@1", "inputs": {"message": "no luck"}},
        "child": noop(1, needs="bad"),
        "good": {"type": "test.sleep@1", "inputs": {"seconds": 0.2, "value": 1}},
    }
    run = await finished(url, workflow(nodes))
    assert run["status"] == "failed"
    assert "no luck" in run["problem"]["detail"]
    assert run["problem"]["instance"] == "/nodes/bad"
    assert run["nodes"]["good"]["status"] == "completed"
    assert run["nodes"]["child"]["reason"] == "upstream-failed"


async def test_on_failure_stop_ends_the_run_at_once(url: str) -> None:
    nodes = {
        "bad": {"type": "test.fail@1", "inputs": {}},
        "long": {"type": "test.sleep@1", "inputs": {"seconds": 60}},
    }
    began = time.monotonic()
    run = await finished(url, workflow(nodes, on_failure="stop"))
    assert run["status"] == "failed"
    assert run["nodes"]["long"]["status"] == "cancelled"
    assert time.monotonic() - began < 30


async def test_on_error_skip_counts_as_a_skip(url: str) -> None:
    nodes = {
        "bad": {"type": "test.fail@1", "inputs": {}, "on_error": "skip"},
        "either": noop({"$first": [{"$from": "bad.value"}, {"$literal": "spare"}]}),
    }
    run = await finished(url, workflow(nodes, outputs={"got": {"$from": "either.value"}}))
    assert run["status"] == "completed"
    assert run["outputs"] == {"got": "spare"}


async def test_an_error_is_tried_again_within_its_budget(url: str) -> None:
    nodes = {"bad": {"type": "test.fail@1", "inputs": {}, "retry": {"max_attempts": 3, "backoff": "50ms"}}}
    run = await finished(url, workflow(nodes))
    assert run["status"] == "failed"
    assert run["nodes"]["bad"]["attempt"] == 3


async def test_an_attempt_is_bounded_by_its_timeout(url: str) -> None:
    nodes = {"long": {"type": "test.sleep@1", "inputs": {"seconds": 60}, "timeout": "200ms"}}
    run = await finished(url, workflow(nodes))
    assert run["nodes"]["long"]["problem"]["type"].endswith("timed-out")


async def test_a_running_run_is_cancelled_long_before_it_would_end(url: str) -> None:
    """How soon is measured by tests/chaos/test_processes.py."""
    async with Client(url) as client:
        run = await client.submit(workflow({"long": {"type": "test.sleep@1", "inputs": {"seconds": 60}}}))
        while (await client.get(run["id"]))["nodes"]["long"]["status"] in ("pending", "queued"):
            await asyncio.sleep(0.02)
        began = time.monotonic()
        await client.cancel(run["id"])
        ended = await client.wait(run["id"])
        assert ended["status"] == "cancelled"
        assert ended["nodes"]["long"]["status"] == "cancelled"
        while sum(queue["running"] for queue in httpx.get(f"{url}/api/v1/queues", timeout=60).json()["queues"]):
            await asyncio.sleep(0.02)
        assert time.monotonic() - began < 30


async def test_the_same_idempotency_key_gives_the_same_run(url: str) -> None:
    async with Client(url) as client:
        document = workflow({"a": noop(1)})
        first = await client.submit(document, idempotency_key="once")
        again = await client.submit(document, idempotency_key="once")
        assert first["id"] == again["id"]
        with pytest.raises(SpindleProblem) as refused:
            await client.submit(workflow({"a": noop(2)}), idempotency_key="once")
        assert refused.value.status == 409


async def test_every_feed_shows_the_same_events(url: str) -> None:
    async with Client(url) as client:
        run = await client.submit(workflow(chain(3)))
        seen = [event async for event in client.events(run["id"]) if "id" in event]
        pages = httpx.get(f"{url}/api/v1/runs/{run['id']}/events", timeout=60).json()["events"]
        assert seen == pages
        kinds = [event["type"] for event in seen]
        assert kinds[:2] == ["run.queued", "run.started"]
        assert kinds[-1] == "run.completed"
        assert kinds.count("node.started") == kinds.count("node.completed") == 3
        stream = httpx.get(f"{url}/api/v1/runs/{run['id']}/events", headers={"Accept": "text/event-stream"}, timeout=60)
        ids = [line.removeprefix("id: ") for line in stream.text.splitlines() if line.startswith("id:")]
        assert [i.strip() for i in ids] == [event["id"] for event in pages]


async def test_a_feed_resumes_after_any_cursor(url: str) -> None:
    async with Client(url) as client:
        run = await client.submit(workflow(chain(3)))
        events = [event async for event in client.events(run["id"]) if "id" in event]
        for position, event in enumerate(events[:-1]):
            rest = [later async for later in client.events(run["id"], after=event["id"]) if "id" in later]
            assert rest == events[position + 1 :]


async def test_progress_comes_live_and_is_kept(url: str) -> None:
    async with Client(url) as client:
        run = await client.submit(workflow({"long": {"type": "test.sleep@1", "inputs": {"seconds": 3}}}))
        ticks = [event["data"] async for event in client.events(run["id"]) if event["type"] == "node.progress"]
        assert ticks[-1] == {"done": 30, "total": 30}
        assert len(ticks) >= 5


async def test_a_large_value_spills_and_comes_back(url: str) -> None:
    parts = [{"$from": "inputs.text"}] * 3
    nodes = {
        "long": {"type": "test.noop@1", "inputs": {"value": parts}},
        "size": noop({"$expr": "size(long.value[2])"}, after=["other"]),
        "other": noop(1),
    }
    document = workflow(nodes, inputs={"text": {"type": "string"}}, outputs={"size": {"$from": "size.value"}})
    run = await finished(url, document, {"text": "x" * 40_000})
    assert run["outputs"] == {"size": 40_000}
    assert run["nodes"]["long"]["outputs"]["value"]["$spilled"]["size"] > 120_000


async def test_a_thousand_nodes(url: str) -> None:
    nodes = {f"n{i}": noop(i) for i in range(999)}
    nodes["join"] = {"type": "test.noop@1", "inputs": {f"in{i}": {"$from": f"n{i}.value"} for i in range(999)}}
    run = await finished(url, workflow(nodes))
    assert run["status"] == "completed"
