"""The object store away, slow, torn: the lease is kept, and nothing is done without its bytes."""

import asyncio
import hashlib
from typing import Any

import httpx
import pytest

from chaos.arena import Arena
from chaos.nodes import blob
from chaos.seeing import Json, at_rest, of, page
from chaos.shapes import workflow
from spindle_control.client import Client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SIZE = 300_000


@pytest.fixture
def s3_arena(arena: Arena) -> Arena:
    if arena.store is None:
        pytest.skip("left out: Debian's radosgw cannot be had here, so artifacts lie in a folder")
    return arena


def writer(seed: int, **more: Any) -> Json:
    return {"type": "chaos.write@1", "inputs": {"seed": seed, "size": SIZE}, **more}


async def kept(arena: Arena, run: str, seed: int) -> None:
    """The run completed, once, and its bytes are there."""
    async with Client(arena.urls[0], patience=60) as client:
        record = await client.wait(run)
        assert record["status"] == "completed", record.get("problem")
        artifact = record["nodes"]["a"]["outputs"]["file"]
        assert artifact["digest"] == "sha256:" + hashlib.sha256(blob(seed, SIZE)).hexdigest()
        assert hashlib.sha256(await client.download(artifact)).hexdigest() == artifact["digest"].removeprefix("sha256:")
    assert len(of(await page(arena.urls[0], run), "node.completed", "a")) == 1


async def submit(arena: Arena, seed: int, **more: Any) -> str:
    async with Client(arena.urls[0], patience=60) as client:
        return str((await client.submit(workflow({"a": writer(seed, **more)})))["id"])


async def test_a_store_that_is_away_is_waited_for(s3_arena: Arena) -> None:
    assert s3_arena.store
    gateway = s3_arena.store.gateway
    assert gateway
    await asyncio.to_thread(gateway.stop_gateway)
    try:
        run = await submit(s3_arena, 1)
        await asyncio.sleep(5)
        async with Client(s3_arena.urls[0]) as client:
            assert (await client.get(run))["status"] == "running", "not done without its bytes, and not given up"
        async with httpx.AsyncClient(timeout=10) as http:
            assert (await http.get(f"{s3_arena.urls[0]}/health")).status_code == 503
    finally:
        await asyncio.to_thread(gateway.start_gateway)
    await kept(s3_arena, run, 1)
    assert await at_rest(s3_arena) == []
