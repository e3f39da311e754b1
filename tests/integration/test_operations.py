"""Pausing, parking, resuming, retrying, over HTTP: real controls and a real worker on a Redis of their own."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from spindle_common.seeds import draw_seed
from spindle_control.api_keys import ApiKeys
from spindle_control.client import Client
from support.cluster import workflow
from support.control import Control
from support.manned import manned
from support.operating import (
    RUNS,
    chain,
    check_history,
    ended,
    history,
    leftovers,
    node_is,
    parked,
    record,
    step,
    submit,
)
from support.redis_server import RedisServer
from support.worker_process import WorkerProcess

Json = dict[str, Any]
APART: Json = {"fuse_chains": False}


@pytest.fixture(scope="module")
def own_worker(tmp_path_factory: pytest.TempPathFactory, own_redis: RedisServer) -> Iterator[WorkerProcess]:
    beats = {"SPINDLE_BEAT_SECONDS": "0.3", "SPINDLE_LEASE_SECONDS": "3"}
    with WorkerProcess(tmp_path_factory.mktemp("worker"), own_redis.url, torch=True, **beats) as process:
        yield process


@pytest.fixture
async def control(tmp_path: Path, own_redis: RedisServer, own_worker: WorkerProcess) -> AsyncIterator[Control]:
    async with manned(tmp_path, own_redis, own_worker, **APART) as control:
        yield control


@pytest.fixture
async def other(tmp_path: Path, own_redis: RedisServer, own_worker: WorkerProcess) -> AsyncIterator[Control]:
    async with manned(tmp_path, own_redis, own_worker, **APART) as control:
        yield control


async def gone(control: Control, run: str) -> None:
    """Nothing of an ended run stays in Redis, once it is archived."""
    async with asyncio.timeout(60):
        while found := await leftovers(control.services.driver._parts.queue, run):
            await asyncio.sleep(0.1)
    assert not found
    assert not control.services.driver.holds(run)


async def test_a_paused_run_survives_an_emptied_redis_and_goes_on_at_another_control(
    control: Control, other: Control
) -> None:
    run = await submit(control.http, workflow(chain(3, 1.5), outputs={"v": {"$from": "n2.value"}}))
    await node_is(control, run, "n0", "running")
    assert (await step(control, run, "pause"))["status"] == "paused"
    assert (await step(other, run, "pause"))["status"] == "paused", "again changes nothing"
    assert run in control.services.driver.drives, "what runs may end"
    await parked(control, run)
    resting = await record(other, run)
    assert {path: node["status"] for path, node in resting["nodes"].items()} == {
        "n0": "completed",
        "n1": "pending",
        "n2": "pending",
    }
    assert [each["id"] for each in (await control.http.get(RUNS, params={"status": "paused"})).json()["runs"]] == [run]
    await control.services.driver._parts.queue.client.flushall()
    assert (await step(other, run, "resume"))["status"] == "running"
    assert (await step(control, run, "resume"))["status"] in ("running", "completed"), "again changes nothing"
    done = await ended(control, run)
    assert (done["status"], done["outputs"]) == ("completed", {"v": 2})
    assert {node["attempt"] for node in done["nodes"].values()} == {1}
    events = await history(control, run)
    check_history(events)
    assert [event["type"] for event in events].count("node.started") == 3
    await gone(control, run)
    await gone(other, run)


async def test_a_paused_run_that_waits_for_a_driver_waits_no_more(
    tmp_path: Path, own_redis: RedisServer, own_worker: WorkerProcess
) -> None:
    async with manned(tmp_path, own_redis, own_worker, max_driven_runs=1, **APART) as control:
        first = await submit(control.http, workflow(chain(1, 3.0)))
        second = await submit(control.http, workflow(chain(1)))
        assert (await record(control, second))["status"] == "queued"
        assert (await step(control, second, "pause"))["status"] == "paused"
        await parked(control, second)
        assert (await ended(control, first))["status"] == "completed"
        await asyncio.sleep(0.6)
        assert (await record(control, second))["status"] == "paused"
        await step(control, second, "resume")
        assert (await ended(control, second))["status"] == "completed"
        check_history(await history(control, second))
        await gone(control, second)


async def test_a_parked_run_can_be_cancelled(control: Control) -> None:
    run = await submit(control.http, workflow(chain(2, 1.5)))
    await step(control, run, "pause")
    await parked(control, run)
    assert (await control.http.post(f"{RUNS}/{run}:cancel")).json()["status"] == "cancelled"
    done = await ended(control, run)
    assert done["status"] == "cancelled"
    assert done["nodes"]["n1"]["status"] == "cancelled"
    check_history(await history(control, run))
    for what in ("pause", "resume"):
        refused = await control.http.post(f"{RUNS}/{run}:{what}")
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:spindle:problem:run-ended")
        assert (await control.http.post(f"{RUNS}/nothing:{what}")).status_code == 404
    await gone(control, run)


async def test_a_watcher_sees_every_event_once_across_a_pause(control: Control, other: Control) -> None:
    run = await submit(control.http, workflow(chain(3, 0.7)))
    seen: dict[str, list[Json]] = {"one": [], "two": []}

    async def watch(name: str, url: str) -> None:
        async with Client(url) as client:
            seen[name] = [event async for event in client.events(run) if "id" in event or event["type"] == "gap"]

    watchers = asyncio.gather(watch("one", control.url), watch("two", other.url))
    await node_is(control, run, "n0", "running")
    await step(control, run, "pause")
    await parked(control, run)
    resting = await history(control, run)
    assert resting[-1]["type"] == "node.completed"
    async with Client(control.url) as client:
        late = asyncio.ensure_future(collect(client, run, resting[2]["id"]))
        await asyncio.sleep(0.5)
        await step(other, run, "resume")
        assert (await ended(control, run))["status"] == "completed"
        async with asyncio.timeout(120):
            await watchers
            rest = await late
    events = await history(control, run)
    check_history(events)
    assert seen["one"] == events
    assert seen["two"] == events
    assert rest == events[3:]
    resumed = next(event for event in events if event["data"].get("resumed"))
    assert resumed["time"] > resting[-1]["time"], "it tells when the run went on, not when it was paused"


async def collect(client: Client, run: str, after: str) -> list[Json]:
    return [event async for event in client.events(run, after) if "id" in event]


async def hammer(controls: list[Control], run: str, dice: random.Random, enough: asyncio.Event) -> None:
    """Pause and resume at random until it is enough or the run has ended; each answer is waited for."""
    while not enough.is_set():
        chosen = dice.choice(controls)
        response = await chosen.http.post(f"{RUNS}/{run}:{dice.choice(('pause', 'resume'))}")
        assert response.status_code in (200, 202, 409, 503), response.text
        if response.status_code == 409:
            return
        await asyncio.sleep(dice.random() * 0.1)


@pytest.mark.parametrize("seed", range(2))
async def test_pauses_and_resumes_at_once_lose_and_repeat_nothing(control: Control, other: Control, seed: int) -> None:
    nodes = {path: node for name in "abc" for path, node in chain(25, 0.02, name).items()}
    run = await submit(control.http, workflow(nodes, outputs={name: {"$from": f"{name}24.value"} for name in "abc"}))
    dice, enough = random.Random(seed), asyncio.Event()
    hammers = [asyncio.ensure_future(hammer([control, other], run, dice, enough)) for _ in range(4)]
    await asyncio.sleep(3)
    enough.set()
    await asyncio.gather(*hammers)
    assert (await other.http.post(f"{RUNS}/{run}:resume")).status_code in (202, 409), "409: it has ended meanwhile"
    done = await ended(control, run)
    assert (done["status"], done.get("problem")) == ("completed", None)
    assert done["outputs"] == {"a": 24, "b": 24, "c": 24}
    check_history(await history(control, run))
    await gone(control, run)
    await gone(other, run)


@pytest.mark.parametrize("seed", range(6))
async def test_a_cancel_among_pauses_and_resumes_wins_once(control: Control, other: Control, seed: int) -> None:
    run = await submit(control.http, workflow(chain(50, 0.02)))
    dice, never = random.Random(seed), asyncio.Event()
    hammers = [asyncio.ensure_future(hammer([control, other], run, dice, never)) for _ in range(3)]
    await asyncio.sleep(0.3 + dice.random() * 0.7)
    cancelled = await asyncio.gather(*(each.http.post(f"{RUNS}/{run}:cancel") for each in (control, other)))
    assert {response.status_code for response in cancelled} == {200}
    await asyncio.gather(*hammers)
    done = await ended(control, run)
    assert (done["status"], done.get("problem")) == ("cancelled", None)
    events = await history(control, run)
    check_history(events)
    assert events[-1]["type"] == "run.cancelled"
    await gone(control, run)
    await gone(other, run)


async def test_a_retry_reuses_what_was_completed(control: Control) -> None:
    nodes = chain(2, 0.05) | {
        "bad": {"type": "test.fail@1", "inputs": {"in0": {"$from": "n1.value"}}},
        "after": {"type": "test.noop@1", "inputs": {"in0": {"$from": "bad.value"}}},
    }
    run = await submit(control.http, workflow(nodes), priority=3)
    refused = await control.http.post(f"{RUNS}/{run}:retry")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:spindle:problem:run-not-ended")
    assert (await ended(control, run))["status"] == "failed"
    again = await step(control, run, "retry")
    assert (again["parent"], again["priority"]) == (run, 3)
    done = await ended(control, again["id"])
    assert done["status"] == "failed"
    assert [done["nodes"][name].get("reused", False) for name in ("n0", "n1", "bad", "after")] == [True, True] + [
        False
    ] * 2
    assert [done["nodes"][name]["outputs"] for name in ("n0", "n1")] == [{"value": 0}, {"value": 1}]
    events = await history(control, again["id"])
    check_history(events)
    assert [event["node"] for event in events if event["type"] == "node.started"] == ["bad"]
    assert (await control.http.post(f"{RUNS}/nothing:retry")).status_code == 404


async def test_a_repeated_retry_with_its_key_gives_the_same_run(control: Control) -> None:
    run, second = [await submit(control.http, workflow(chain(1))) for _ in range(2)]
    for each in (run, second):
        await ended(control, each)
    key = {"Idempotency-Key": "once"}
    made = await asyncio.gather(*(control.http.post(f"{RUNS}/{run}:retry", headers=key) for _ in range(3)))
    assert {response.status_code for response in made} == {202}
    assert len({response.json()["id"] for response in made}) == 1
    assert (await control.http.post(f"{RUNS}/{second}:retry", headers=key)).status_code == 409
    assert (await control.http.post(f"{RUNS}/{run}:retry", headers={"Idempotency-Key": "a b"})).status_code == 400


async def test_a_cancelled_run_can_be_retried(control: Control) -> None:
    run = await submit(control.http, workflow(chain(1) | chain(2, 2.0, "m")))
    await node_is(control, run, "n0", "completed")
    await node_is(control, run, "m0", "running")
    await control.http.post(f"{RUNS}/{run}:cancel")
    done = await ended(control, (await step(control, run, "retry"))["id"])
    assert done["status"] == "completed"
    assert [done["nodes"][name].get("reused", False) for name in ("n0", "m0", "m1")] == [True, False, False]


async def test_retries_keep_to_the_tenant(control: Control) -> None:
    keys = ApiKeys(control.services.settings.keys_file)
    mine, theirs = ({"X-API-Key": keys.create(name)[1]} for name in ("studio", "other"))
    run = await submit(control.http, workflow(chain(1)), mine)
    await control.http.get(f"{RUNS}/{run}", params={"wait": "20s"}, headers=mine)
    for what in ("pause", "resume", "retry"):
        assert (await control.http.post(f"{RUNS}/{run}:{what}", headers=theirs)).status_code == 404
    again = (await control.http.post(f"{RUNS}/{run}:retry", headers=mine)).json()
    assert again["tenant"] == "studio"
    assert (await control.http.get(f"{RUNS}/{again['id']}", headers=theirs)).status_code == 404


@pytest.mark.skipif("not __import__('importlib.util').util.find_spec('torch')")
async def test_a_retry_makes_handles_anew_and_keeps_seeds(control: Control) -> None:
    """A task of several nodes with a model between them, cancelled when half of it was committed."""
    model = {"$from": "model.model"}
    sampled = {"conditioning": {"$from": "words.conditioning"}, "model": model}
    nodes: Json = {
        "model": {"type": "model.load@1"},
        "words": {"type": "text.encode@1", "inputs": {"prompt": "a red circle", "model": model}},
        "quick": {"type": "image.sample@1", "inputs": {**sampled, "steps": 2}},
        "first": {"type": "image.decode@1", "inputs": {"latents": {"$from": "quick.latents"}, "model": model}},
        "slow": {"type": "image.sample@1", "inputs": {**sampled, "steps": 150}, "after": ["first"]},
        "second": {"type": "image.decode@1", "inputs": {"latents": {"$from": "slow.latents"}, "model": model}},
    }
    run = await submit(control.http, workflow(nodes))
    await node_is(control, run, "first", "completed")
    await control.http.post(f"{RUNS}/{run}:cancel")
    cancelled = await ended(control, run)
    assert cancelled["nodes"]["second"]["status"] == "cancelled"
    again = await step(control, run, "retry")
    done = await ended(control, again["id"])
    assert done["status"] == "completed", done
    assert done["nodes"]["first"]["outputs"] == cancelled["nodes"]["first"]["outputs"]
    assert done["nodes"]["first"]["reused"]
    assert not done["nodes"]["second"].get("reused")
    assert done["nodes"]["slow"]["outputs"]["seed"] == draw_seed(run, "slow")
    check_history(await history(control, again["id"]))
    third = await ended(control, (await step(control, again["id"], "retry"))["id"])
    assert third["nodes"]["second"]["outputs"] == done["nodes"]["second"]["outputs"]
    kept = await control.services.store.run(third["id"])
    assert (kept.seeds, kept.reason, kept.parent) == (run, "retry", again["id"])
