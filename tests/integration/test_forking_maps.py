"""Forks of a run with a large map: what the patch leaves alone is taken over, item by item; nothing runs twice."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.cluster import workflow
from support.control import Control
from support.manned import manned
from support.operating import RUNS, ended, submit
from support.redis_server import RedisServer
from support.worker_process import WorkerProcess

Json = dict[str, Any]
ITEMS = 250


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spindle")


@pytest.fixture(scope="module")
def own_worker(folder: Path, own_redis: RedisServer) -> Iterator[WorkerProcess]:
    with WorkerProcess(folder, own_redis.url, SPINDLE_CACHE="false") as process:
        yield process


@pytest.fixture
async def control(folder: Path, own_redis: RedisServer, own_worker: WorkerProcess) -> AsyncIterator[Control]:
    async with manned(folder, own_redis, own_worker) as control:
        yield control


def ref(text: str) -> Json:
    return {"$from": text}


def value(of: Any) -> Json:
    return {"type": "test.noop@1", "inputs": {"value": of}}


def mapping(items: int) -> Json:
    """A map of two nodes an item, then a node that reads all of it, and one after that."""
    body = {
        "inputs": {"item": {"type": "integer"}},
        "nodes": {"one": value(ref("inputs.item")), "two": value([ref("one.value"), "old"])},
        "outputs": {"v": ref("two.value")},
    }
    nodes: Json = {
        "all": {"type": "list.range@1", "inputs": {"count": items}},
        "each": {"type": "flow.map@1", "over": ref("all.items"), "concurrency": 64, "body": body},
        "joined": value(ref("each.v")),
        "last": value("old") | {"after": ["joined"]},
    }
    return workflow(nodes, outputs={"end": {"$expr": f"each.v[{items - 1}]"}, "last": ref("last.value")})


async def started(control: Control, run: str) -> set[str]:
    """Nodes that were started in a run, by its events."""
    found, after = set[str](), "0-0"
    while True:
        page = (await control.http.get(f"{RUNS}/{run}/events", params={"after": after})).json()["events"]
        if not page:
            return found
        found |= {event["node"] for event in page if event["type"] == "node.started"}
        after = page[-1]["id"]


async def forked(control: Control, run: str, patch: Json) -> tuple[Json, Json, set[str]]:
    """The plan of a fork, the record of its run, and the nodes that were started in it."""
    wish = {"patch": {"nodes": patch}}
    plan = (await control.http.post(f"{RUNS}/{run}:fork", json=wish, params={"dry_run": True})).json()
    response = await control.http.post(f"{RUNS}/{run}:fork", json=wish)
    assert response.status_code == 202, response.text
    record = await ended(control, response.json()["id"])
    return plan, record, await started(control, record["id"])


async def test_what_comes_after_a_map_is_patched_without_running_the_map(control: Control) -> None:
    run = await submit(control.http, mapping(ITEMS))
    assert (await ended(control, run))["outputs"] == {"end": [ITEMS - 1, "old"], "last": "old"}
    plan, record, ran = await forked(control, run, {"last": {"inputs": {"value": "new"}}})
    assert (plan["reuse"], plan["run"], plan["skip"]) == (["all", "each", "joined"], ["last"], [])
    assert record["outputs"] == {"end": [ITEMS - 1, "old"], "last": "new"}
    assert ran == {"last"}


async def test_a_later_node_of_a_maps_body_is_patched_item_by_item(control: Control) -> None:
    run = await submit(control.http, mapping(ITEMS))
    await ended(control, run)
    patch = {"each": {"body": {"nodes": {"two": {"inputs": {"value": [ref("one.value"), "new"]}}}}}}
    plan, record, ran = await forked(control, run, patch)
    assert set(plan["reuse"]) == {"all", *(f"each[{index}].one" for index in range(ITEMS))}
    assert record["outputs"] == {"end": [ITEMS - 1, "new"], "last": "old"}
    assert ran >= {f"each[{index}].two" for index in range(ITEMS)}
    assert not ran & {f"each[{index}].one" for index in range(ITEMS)}
