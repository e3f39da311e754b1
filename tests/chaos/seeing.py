"""What tests of single faults look at: events, what the nodes themselves noted, what is left in Redis."""

import asyncio
import json
import re
from typing import Any

import httpx

from chaos.arena import Arena
from chaos.evidence import leftovers
from chaos.shapes import workflow
from spindle_common import keys
from spindle_control.client import Client
from support.cluster import Process

Json = dict[str, Any]


def work(seconds: float, *parents: str, **more: Any) -> Json:
    inputs = {f"in{n}": {"$from": f"{parent}.value"} for n, parent in enumerate(parents)}
    return {"type": "chaos.work@1", "inputs": {"seconds": seconds, "value": 1} | inputs, **more}


async def warmed(arena: Arena) -> None:
    """Have every process do once what it imports more for: graphs of several tasks, and of several nodes in a task."""
    document = workflow({"a": work(0), "b": work(0), "c": work(0, "a", "b"), "d": work(0.2, "c"), "e": work(0, "d")})
    for url in arena.urls:
        async with Client(url, patience=60) as client:
            await asyncio.gather(*(client.run_and_wait(document) for _ in range(8)))


async def until_running(client: Client, run: str, node: str) -> None:
    async with asyncio.timeout(60):
        while (await client.get(run))["nodes"][node]["status"] != "running":
            await asyncio.sleep(0.02)


async def page(url: str, run: str) -> list[Json]:
    async with httpx.AsyncClient(timeout=30) as http:
        return list((await http.get(f"{url}/api/v1/runs/{run}/events")).json()["events"])


def moment(event: Json) -> float:
    """When an event was written, by Redis TIME, in seconds."""
    return int(event["id"].partition("-")[0]) / 1000


def of(events: list[Json], kind: str, node: str) -> list[Json]:
    return [event for event in events if event["type"] == kind and event.get("node") == node]


async def worker_with(arena: Arena, task: str) -> Process:
    client = arena.client()
    name = await client.hget(keys.task(task), "worker")
    await client.aclose()
    return await arena.worker_of(name)


async def at_rest(arena: Arena) -> list[str]:
    """Leaks, once what ended had its time to go. Refused submissions have a minute, for which only the mix waits."""
    async with httpx.AsyncClient(timeout=30) as http:
        for _ in range(60):
            seen = await leftovers(arena, set())
            found = [leak for leak in seen if not await _refused(http, arena.urls[0], leak)]
            if not found:
                break
            await asyncio.sleep(0.25)
    return found


async def _refused(http: httpx.AsyncClient, url: str, leak: str) -> bool:
    named = re.match(r"spindle:(?:run|events):(\w+) is", leak)
    return named is not None and (await http.get(f"{url}/api/v1/runs/{named[1]}")).status_code == 404


def executions(arena: Arena) -> list[Json]:
    """What the nodes themselves noted: beginnings, ends, stops."""
    return [json.loads(line) for line in arena.executions.read_text().splitlines()]
