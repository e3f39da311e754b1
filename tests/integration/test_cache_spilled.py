"""Spilled outputs in the content cache: bytes that only the spilled value names are looked after as well."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from spindle_common.garbage import Garbage
from spindle_common.queue import Queue
from spindle_worker.node import Context, OpenInputs, Outputs, node
from support.desk import Desk

Json = dict[str, Any]
RAN: list[str] = []
FILES = 3
DAYS_AGO = 1_600_000_000.0


class PagesInputs(OpenInputs):
    value: Any = None


class PagesOutputs(Outputs):
    value: Any = None


@node("t.pages@1", queue="async")
async def pages(inputs: PagesInputs, ctx: Context) -> PagesOutputs:
    RAN.append(ctx.run)
    files = [ctx.artifacts.write(f"{inputs.value} {at}".encode(), "text/plain") for at in range(FILES)]
    return PagesOutputs(value={"text": "x" * 70_000, "files": [file.model_dump(mode="json") for file in files]})


NODES: Json = {"a": {"type": "t.pages@1", "inputs": {"value": "page"}}}


@pytest.fixture
async def desks(queue: Queue, tmp_path: Path) -> AsyncIterator[Callable[[str], Desk]]:
    RAN.clear()
    made: list[Desk] = []

    def desk(name: str) -> Desk:
        made.append(Desk(queue.client, tmp_path, [pages.spec], name))  # type: ignore[attr-defined]
        return made[-1]

    yield desk
    for each in made:
        await each.close()


async def inner(desk: Desk, ledger: Json) -> list[str]:
    """Digests that the node's spilled output names."""
    spilled = ledger["a"]["outputs"]["value"]["$spilled"]["digest"]
    return [file["digest"] for file in json.loads(await desk.store.read(spilled))["files"]]


async def kept(desk: Desk) -> list[str]:
    """Digests of a first run, whose result is on the shelf as well."""
    found = await inner(desk, await desk.run("r1", NODES))
    await desk.content.close()  # type: ignore[union-attr]
    return found


def grown_old(folder: Path, digest: str) -> Path:
    """Have bytes look as if they were written long ago."""
    name = digest.removeprefix("sha256:")
    path = folder / "artifacts" / "sha256" / name[:2] / name
    os.utime(path, (DAYS_AGO, DAYS_AGO))
    return path


@pytest.mark.parametrize("redis", ["kept", "emptied"])
async def test_a_spilled_value_whose_files_are_gone_is_no_hit(
    desks: Callable[[str], Desk], queue: Queue, redis: str
) -> None:
    desk = desks("w1")
    files = await kept(desk)
    await desk.store.delete(files[1])
    if redis == "emptied":
        await queue.client.flushall()
    ledger = await desks("w2").run("r2", NODES)
    assert [await desk.store.head(digest) for digest in await inner(desk, ledger)], "all are there"
    assert RAN == ["r1", "r2"]
    again = await desks("w3").run("r3", NODES)
    assert (again["a"].get("reused"), RAN) == (True, ["r1", "r2"]), "and what was computed again is found"


@pytest.mark.parametrize("redis", ["kept", "emptied"])
async def test_a_hit_keeps_collectors_away_from_files_in_a_spilled_value(
    desks: Callable[[str], Desk], queue: Queue, tmp_path: Path, redis: str
) -> None:
    files = await kept(desks("w1"))
    paths = [grown_old(tmp_path, digest) for digest in files]
    if redis == "emptied":
        await queue.client.flushall()
    await queue.client.delete("spindle:spared")
    garbage = Garbage(queue.client)
    await garbage.condemn("c", files)
    ledger = await desks("w2").run("r2", NODES)
    assert ledger["a"]["reused"]
    assert [await garbage.execute("c", digest) for digest in files] == [0] * FILES
    assert all(path.stat().st_mtime > DAYS_AGO for path in paths), "touched: they are young again"


async def test_a_hit_waits_while_files_in_a_spilled_value_are_deleted(
    desks: Callable[[str], Desk], queue: Queue
) -> None:
    desk = desks("w1")
    files = await kept(desk)
    await queue.client.delete("spindle:spared")
    garbage = Garbage(queue.client)
    await garbage.condemn("c", files[:1])
    began = await garbage.execute("c", files[0])
    assert began
    running = asyncio.ensure_future(desks("w2").run("r2", NODES))
    await asyncio.sleep(0.3)
    assert not running.done(), "whether they are there is not known before they are deleted"
    await desk.store.delete(files[0])
    await garbage.deleted(files[0], began)
    ledger = await running
    assert [await desk.store.head(digest) for digest in await inner(desk, ledger)]
    assert RAN == ["r1", "r2"]
