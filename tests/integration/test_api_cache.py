"""What the content cache keeps, over HTTP, on the command line, and under garbage collection."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from spindle_common.connection import connect
from spindle_common.garbage import Garbage
from spindle_common.queue import Queue
from spindle_control.api_keys import ApiKeys
from spindle_control.cli import app
from spindle_control.garbage import Collector, Policy
from spindle_control.retention import Retention
from spindle_worker.node import Context, OpenInputs, Outputs, node
from support.control import API, Control, serving
from support.desk import Desk
from support.garbage import dump
from support.redis_server import RedisServer

Json = dict[str, Any]
DAY = 86400.0


class EchoInputs(OpenInputs):
    value: Any = None


class EchoOutputs(Outputs):
    value: Any = None


@node("t.echo@1", queue="async")
async def echo(inputs: EchoInputs, ctx: Context) -> EchoOutputs:
    return EchoOutputs(value=inputs.value)


@node("t.echo@2", queue="async")
async def echo_again(inputs: EchoInputs, ctx: Context) -> EchoOutputs:
    return EchoOutputs(value=inputs.value)


@node("t.echo_more@1", queue="async")
async def echo_more(inputs: EchoInputs, ctx: Context) -> EchoOutputs:
    return EchoOutputs(value=inputs.value)


NODES: list[Any] = [echo, echo_again, echo_more]
TYPES = ["t.echo@1", "t.echo@2", "t.echo_more@1"]


@pytest.fixture
async def control(tmp_path: Path, quiet_server: RedisServer) -> AsyncIterator[Control]:
    client = connect(quiet_server.url)
    await client.flushall()
    async with serving(tmp_path, quiet_server.url) as control:
        yield control
    await client.aclose()


@pytest.fixture
async def desk(control: Control, tmp_path: Path, quiet_server: RedisServer) -> AsyncIterator[Desk]:
    client = connect(quiet_server.url)
    desk = Desk(client, tmp_path, [each.spec for each in NODES])
    yield desk
    await desk.close()
    await client.aclose()


async def reused(desk: Desk, run: str, tenant: str = "default") -> list[str]:
    """Run a node of each type; types of those that were not computed."""
    nodes = {f"n{at}": {"type": type_, "inputs": {"value": 1}} for at, type_ in enumerate(TYPES)}
    ledger = await desk.run(run, nodes, tenant)
    await desk.content.close()  # type: ignore[union-attr]
    return [TYPES[int(path[1:])] for path, outcome in sorted(ledger.items()) if outcome.get("reused")]


async def kept(control: Control, **headers: str) -> Json:
    response = await control.http.get(f"{API}/cache", headers=headers)
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


async def test_it_tells_what_is_kept_and_how_often_it_helped(control: Control, desk: Desk) -> None:
    assert await kept(control) == {"entries": 0, "bytes": 0, "hits": 0, "misses": 0, "hit_rate": None}
    for run in ("r1", "r2", "r3"):
        await reused(desk, run)
    found = await kept(control)
    assert found.pop("bytes") > 100
    assert found == {"entries": 3, "hits": 6, "misses": 3, "hit_rate": 0.6667}


@pytest.mark.parametrize(
    ("asked", "left"),
    [(None, []), ("t.echo@1", TYPES[1:]), ("t.echo", TYPES[2:]), ("t.other", TYPES), ("t.echo_more@1", TYPES[:2])],
)
async def test_a_purge_forgets_what_was_asked(control: Control, desk: Desk, asked: str | None, left: list[str]) -> None:
    await reused(desk, "r1")
    response = await control.http.request("DELETE", f"{API}/cache", params={"type": asked} if asked else {})
    assert response.json() == {"entries": 3 - len(left)}
    assert (await kept(control))["entries"] == len(left)
    assert await reused(desk, "r2") == left


@pytest.mark.parametrize("asked", ["", "*", "t", "../x", "t.echo@1/..", "T.Echo"])
async def test_what_is_no_type_purges_nothing(control: Control, desk: Desk, asked: str) -> None:
    await reused(desk, "r1")
    response = await control.http.request("DELETE", f"{API}/cache", params={"type": asked})
    assert response.status_code == 400
    assert response.headers["Content-Type"] == "application/problem+json"
    assert (await kept(control))["entries"] == 3


async def test_tenants_see_and_purge_their_own(control: Control, desk: Desk) -> None:
    keys = ApiKeys(control.services.settings.keys_file)
    acme, other = (f"Bearer {keys.create(tenant)[1]}" for tenant in ("acme", "other"))
    await reused(desk, "r1", "acme")
    await reused(desk, "r2", "other")
    await control.http.request("DELETE", f"{API}/cache", headers={"Authorization": acme})
    assert [(await kept(control, Authorization=key))["entries"] for key in (acme, other)] == [0, 3]
    assert await reused(desk, "r3", "acme") == []
    assert await reused(desk, "r4", "other") == TYPES


async def test_the_command_line(control: Control, desk: Desk) -> None:
    await reused(desk, "r1")

    async def spindle(*arguments: str) -> str:
        env = {"SPINDLE_URL": control.url, "COLUMNS": "160"}
        done = await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=env)
        assert done.exit_code == 0, done.output
        return str(done.stdout)

    assert json.loads(await spindle("cache", "show", "--json"))["entries"] == 3
    assert json.loads(await spindle("cache", "purge", "--type", "t.echo", "--json")) == {"entries": 2}
    assert "hit rate" in await spindle("cache", "show")
    assert (await spindle("cache", "purge")).strip() == "forgot 1"


async def test_garbage_collection_takes_what_nobody_has_asked_for(queue: Queue, tmp_path: Path) -> None:
    async with dump(Garbage(queue.client), tmp_path) as heap:
        desk = Desk(queue.client, tmp_path, [each.spec for each in NODES])
        await reused(desk, "r1")
        old, *_ = sorted((tmp_path / "artifacts" / "shelf" / "cache" / "default").glob("*/*"))
        os.utime(old, (time.time() - 8 * DAY,) * 2)
        policy = Policy(runs=None, artifacts=DAY, idempotency=DAY)
        collector = Collector(heap.garbage, Retention(heap.store), heap.artifacts, policy, desk.store)
        assert (await collector.dry_run()).cached.count == 1
        assert old.exists()
        report = await collector.collect()
        assert report is not None
        assert (report.cached.count, report.cached.bytes > 0) == (1, True)
        left = [each.name async for each in desk.store.on_shelf("")]
        assert len(left) == 2
        await desk.close()
