"""What is there at the end: records, event pages, bytes, executions, and what Redis still holds."""

import asyncio
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from chaos.arena import Arena
from spindle_common import keys

Json = dict[str, Any]
OPEN = frozenset({"queued", "running", "paused"})
_SETS = frozenset({"leases", "timers", "patience", "lane", "line", "ready", "waiting"})


@dataclass
class Evidence:
    """Everything that the checker looks at beside the history."""

    records: dict[str, Json] = field(default_factory=dict)
    pages: dict[str, list[list[Json]]] = field(default_factory=dict)
    """A run's whole event feed, as each control gives it."""
    blobs: dict[str, str | None] = field(default_factory=dict)
    """Digest -> SHA-256 of the bytes that can be read under it; None: unreadable."""
    executions: list[Json] = field(default_factory=list)
    health: dict[str, int] = field(default_factory=dict)
    leftovers: list[str] = field(default_factory=list)


async def settle(arena: Arena, patience: float) -> None:
    """Wait until no run is open, for so long at most; then until Redis has forgotten what ended, a minute at most."""
    deadline = asyncio.get_running_loop().time() + patience
    async with httpx.AsyncClient(timeout=30) as http:
        while asyncio.get_running_loop().time() < deadline:
            if not await _open_runs(http, arena.urls[0]):
                break
            await asyncio.sleep(0.5)
    for _ in range(60):
        await asyncio.sleep(1)
        if not await leftovers(arena, set()):
            return


async def _open_runs(http: httpx.AsyncClient, url: str) -> bool:
    for status in ("queued", "running"):
        try:
            answer = await http.get(f"{url}/api/v1/runs", params={"status": status, "limit": 1})
        except httpx.TransportError:
            return True
        if answer.status_code != 200 or answer.json()["runs"]:
            return True
    return False


async def gather(arena: Arena, since: float = 0.0) -> Evidence:
    """Collect it all, when nothing is under way any more: what concerns runs that were accepted since then."""
    found = Evidence()
    async with httpx.AsyncClient(timeout=60) as http:
        for url in arena.urls:
            found.health[url] = (await http.get(f"{url}/health")).status_code
        for run in await _all_runs(http, arena.urls[0], since):
            found.records[run] = (await http.get(f"{arena.urls[0]}/api/v1/runs/{run}")).json()
            found.pages[run] = [await _feed(http, url, run) for url in arena.urls]
        for digest in sorted(set(_digests([record.get("nodes") for record in found.records.values()]))):
            answer = await http.get(f"{arena.urls[0]}/api/v1/artifacts/{digest}/content")
            found.blobs[digest] = hashlib.sha256(answer.content).hexdigest() if answer.status_code == 200 else None
    lines = [json.loads(line) for line in arena.executions.read_text().splitlines()]
    found.executions = [line for line in lines if line["at"] >= since]
    found.leftovers = await leftovers(arena, {run for run, r in found.records.items() if r["status"] in OPEN})
    return found


async def _all_runs(http: httpx.AsyncClient, url: str, since: float) -> list[str]:
    runs: list[str] = []
    after = None
    while True:
        params = {"limit": 500} | ({"after": after} if after else {})
        page = (await http.get(f"{url}/api/v1/runs", params=params)).json()
        runs += [run["id"] for run in page["runs"] if datetime.fromisoformat(run["created_at"]).timestamp() >= since]
        after = page["next"]
        if not after:
            return runs


async def _feed(http: httpx.AsyncClient, url: str, run: str) -> list[Json]:
    events: list[Json] = []
    while True:
        params = {"after": events[-1]["id"]} if events else {}
        page = (await http.get(f"{url}/api/v1/runs/{run}/events", params=params)).json()["events"]
        events += page
        if len(page) < 1000:
            return events


def _digests(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _digests(each)
    elif isinstance(value, dict):
        if isinstance(value.get("digest"), str) and "media_type" in value:
            yield value["digest"]
        for each in value.values():
            yield from _digests(each)


# Redis at rest ------------------------------------------------------------------------------------------------------


async def leftovers(arena: Arena, still_open: set[str]) -> list[str]:
    """What Redis holds though nothing is under way: each leak told in words."""
    client = arena.client()
    try:
        live = set(await client.zrange(keys.WORKERS, 0, -1))
        found = (
            [f"{len(live)} workers are registered, {len(arena.workers)} live"]
            if len(live) != len(arena.workers)
            else []
        )
        async for key in client.scan_iter(f"{keys.PREFIX}*", count=1000):
            found += await _leak(client, key, live, still_open)
        return found + await _slots(client, live)
    finally:
        await client.aclose()


async def _leak(client: Any, key: str, live: set[str], still_open: set[str]) -> list[str]:
    kind, _, name = key.removeprefix(keys.PREFIX).partition(":")
    if kind in ("run", "ledger", "events", "ticks", "tasks", "task") and name.partition("/")[0] not in still_open:
        return [f"{key} is still there"]
    if kind in _SETS and (count := await client.zcard(key)):
        return [f"{key} holds {count}: {await client.zrange(key, 0, 2)}"]
    if kind == "queue":
        return await _stream_leaks(client, key, live)
    if kind == "drive" and await client.zscore(keys.CONTROLS, name) is None and await client.pttl(key) == -1:
        return [f"{key} has no control, and will not expire"]
    if kind == "worker" and name not in live:
        return [f"{key} has no registration"]
    return []


async def _stream_leaks(client: Any, key: str, live: set[str]) -> list[str]:
    found = [f"{key} holds {count} entries"] if (count := await client.xlen(key)) else []
    for group in await client.xinfo_groups(key):
        if group["pending"]:
            found.append(f"{key} has {group['pending']} pending entries")
        for consumer in await client.xinfo_consumers(key, group["name"]):
            if consumer["name"] not in live and not consumer["name"].startswith("zombie-"):
                found.append(f"{key} has a consumer of the dead worker {consumer['name']}")
    return found


async def _slots(client: Any, live: set[str]) -> list[str]:
    wanted: dict[str, int] = {}
    for worker in live:
        for queue, count in json.loads(await client.hget(keys.worker(worker), "slots")).items():
            wanted[queue] = wanted.get(queue, 0) + count
    there = {queue: int(count) for queue, count in (await client.hgetall(keys.SLOTS)).items() if int(count)}
    return [] if there == wanted else [f"{keys.SLOTS} says {there}, live workers offer {wanted}"]
