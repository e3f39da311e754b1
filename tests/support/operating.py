"""What tests of pausing, resuming and retrying share: steps over HTTP, and what Redis still holds of a run."""

import asyncio
from collections import Counter
from typing import Any

import httpx

from spindle_common.queue import Queue
from support.control import API, Control

RUNS = f"{API}/runs"
Json = dict[str, Any]
ENDED = ("completed", "failed", "cancelled")
_LASTING = ("spindle:dead", "spindle:drive:")
"""Streams that may name a run for longer: letters, and what a control has read, up to the last entry."""


def chain(count: int, seconds: float = 0.0, name: str = "n") -> Json:
    """Nodes one after the other, each of which sleeps."""
    nodes: Json = {}
    for number in range(count):
        before = {"in0": {"$from": f"{name}{number - 1}.value"}} if number else {}
        inputs = {"seconds": seconds, "value": number} | before
        nodes[f"{name}{number}"] = {"type": "test.sleep@1", "inputs": inputs}
    return nodes


async def submit(http: httpx.AsyncClient, workflow: Json, headers: Json | None = None, **more: Any) -> str:
    """Submit a run; returns its id."""
    response = await http.post(RUNS, json={"workflow": workflow, **more}, headers=headers)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


async def step(control: Control, run: str, what: str) -> Json:
    """Pause, resume or retry; the answer says where the run is."""
    response = await control.http.post(f"{RUNS}/{run}:{what}")
    assert response.status_code == 202, response.text
    record: Json = response.json()
    assert response.headers["Location"] == f"{RUNS}/{record['id']}"
    return record


async def record(control: Control, run: str) -> Json:
    found: Json = (await control.http.get(f"{RUNS}/{run}")).json()
    return found


async def ended(control: Control, run: str) -> Json:
    """Its record at its end."""
    async with asyncio.timeout(120):
        while True:
            found: Json = (await control.http.get(f"{RUNS}/{run}", params={"wait": "20s"}, timeout=30)).json()
            if found["status"] in ENDED:
                return found


async def node_is(control: Control, run: str, node: str, status: str) -> None:
    """Wait until a node has a status."""
    async with asyncio.timeout(120):
        while (found := (await record(control, run))["nodes"][node]["status"]) != status:
            assert found in ("pending", "queued", "running"), found
            await asyncio.sleep(0.02)


async def parked(control: Control, run: str) -> None:
    """Wait until a paused run is in the database only."""
    queue = Queue(control.services.driver._parts.queue.client)
    async with asyncio.timeout(120):
        while (await control.services.store.run(run)).status != "paused" or await leftovers(queue, run):
            await asyncio.sleep(0.02)
        while run in control.services.driver.drives:
            await asyncio.sleep(0.02)


async def history(control: Control, run: str) -> list[Json]:
    """Its durable events."""
    events: list[Json] = (await control.http.get(f"{RUNS}/{run}/events")).json()["events"]
    assert len(events) < 1000
    return events


async def leftovers(queue: Queue, run: str) -> list[str]:
    """Everything in Redis that names a run."""
    client: Any = queue.client
    found: list[str] = []
    for key in await client.keys("spindle:*"):
        kind = await client.type(key)
        members: list[Any] = []
        if kind == "zset":
            members = await client.zrange(key, 0, -1)
        elif kind == "stream" and not key.startswith(_LASTING):
            members = await client.xrange(key)
        if run in key or any(run in str(member) for member in members):
            found.append(key)
    return found


def check_history(events: list[Json]) -> None:
    """Ids rise, the run ends at most once and last, each node ends at most once and starts no more after it."""
    ids = [tuple(map(int, event["id"].split("-"))) for event in events]
    assert ids == sorted(set(ids)), "each once and in order"
    kinds = [event["type"] for event in events]
    ends = [kind for kind in kinds if kind in ("run.completed", "run.failed", "run.cancelled")]
    assert ends == kinds[-1:] or not ends, kinds
    over: Counter[str] = Counter()
    for event in events:
        if event["type"] == "node.started":
            assert not over[event["node"]], f"{event['node']} ran after it had ended"
        elif event["type"] in ("node.completed", "node.failed", "node.skipped"):
            over[event["node"]] += 1
    assert set(over.values()) <= {1}, over
