"""What child processes cost, and what they spare others: `python tests/bench/children.py [--seconds 60]`.

Prints JSON. Call: a native node that does nothing, and one that resizes a picture of 64², in a child and in a thread of
one process, in turns. Child: memory of the forkserver and of children that wait; time to fork one. Poison: good tasks a
second on two slots, alone and beside a third slot that is full of tasks that segfault, exit and spin.
"""

import argparse
import asyncio
import io
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
from PIL import Image as Pillow

from spindle_common.artifacts import ArtifactStore, open_store
from spindle_worker import calling
from spindle_worker.catalog import node_specs
from spindle_worker.children import ChildDied, Children, Limits, Loan, Reach, Rearing
from spindle_worker.children.rearing import PRELOADED
from spindle_worker.context import Context, Sinks
from spindle_worker.files import Files

AIM = "a call in a child costs < 2 ms more than in a thread; others keep >= 90 % of their throughput beside poison"
SLOTS = 3
MIB = 2**20
Node = tuple[str, Mapping[str, Any]]


class Yard:
    """Children, and what a call needs."""

    def __init__(self, children: Children, store: ArtifactStore) -> None:
        self.children, self.files = children, Files(store)
        self._specs = node_specs(test_nodes=True)

    def _reach(self) -> Reach:
        nothing = lambda *_: None  # noqa: E731
        return Reach("run", "node", 1, self.files, nothing, nothing, dict, nothing)

    async def in_child(self, node: Node) -> None:
        loan = Loan(self.children, "cpu")
        try:
            async with loan.turn() as child:
                await child.call(*node, self._reach())
        finally:
            await loan.close()

    async def in_thread(self, node: Node) -> None:
        sinks = Sinks(lambda *_: None, lambda *_: None, dict)
        context = Context("run", "node", 1, self.files, sinks)
        await asyncio.to_thread(calling.call_native, self._specs[node[0]], node[1], context)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of each half of the poison")
    parser.add_argument("--rounds", type=int, default=300)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rearing = Rearing(worker=os.getpid(), path=tuple(sys.path), preload=PRELOADED, test_nodes=True)
        children = Children(rearing, Limits({"cpu": SLOTS}, 2**33, frozenset({"cpu"})))
        store = open_store(Path(folder), None)
        began = time.perf_counter()
        children.start()
        yard = Yard(children, store)
        try:
            await yard.in_child(("test.work@1", {}))
            found = {
                "first_call_after_s": round(time.perf_counter() - began, 2),
                "call": await calls(yard, given.rounds),
            }
            found["child"] = await child_costs(yard)
            found["poison"] = await poison(yard, given.seconds)
        finally:
            await children.close()
            await store.close()
    print(
        json.dumps(
            found | {"aim": AIM, "machine": {"processor": platform.machine(), "cores": os.cpu_count()}}, indent=2
        )
    )


async def calls(yard: Yard, rounds: int) -> dict[str, Any]:
    """Median milliseconds of both ways, in turns."""
    picture = io.BytesIO()
    Pillow.effect_noise((64, 64), 50).save(picture, "PNG")
    artifact = yard.files.write(picture.getvalue(), "image/png").model_dump(mode="json")
    await yard.files.settle()
    nodes: dict[str, Node] = {
        "nothing": ("test.work@1", {}),
        "resize": ("image.resize@1", {"image": artifact, "scale": 2}),
    }
    return {name: await both(yard, node, rounds) for name, node in nodes.items()}


async def both(yard: Yard, node: Node, rounds: int) -> dict[str, float]:
    ways: dict[str, Callable[[Node], Awaitable[None]]] = {"child_ms": yard.in_child, "thread_ms": yard.in_thread}
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, call in ways.items():
            began = time.perf_counter()
            await call(node)
            taken[way].append((time.perf_counter() - began) * 1000)
    medians = {way: round(statistics.median(values), 3) for way, values in taken.items()}
    return medians | {"difference_ms": round(medians["child_ms"] - medians["thread_ms"], 3)}


async def child_costs(yard: Yard) -> dict[str, Any]:
    """Memory, and the time from a death to the next call's end."""
    replaced = []
    for _ in range(10):
        try:
            await yard.in_child(("test.exit@1", {}))
        except ChildDied:
            began = time.perf_counter()
            await yard.in_child(("test.work@1", {}))
            replaced.append(time.perf_counter() - began)
    await asyncio.gather(*(yard.in_child(("test.work@1", {"seconds": 0.2})) for _ in range(SLOTS)))
    idle = [psutil.Process(pid).memory_full_info() for pid in yard.children.pids]
    server = psutil.Process(yard.children.forkserver).memory_full_info()
    return {
        "forkserver_rss_mib": server.rss // MIB,
        "idle_rss_mib": [info.rss // MIB for info in idle],
        "idle_own_mib": [info.uss // MIB for info in idle],
        "idle_share_mib": [info.pss // MIB for info in idle],
        "replaced_and_called_ms": round(statistics.median(replaced) * 1000, 1),
    }


async def poison(yard: Yard, seconds: float) -> dict[str, Any]:
    """Good calls a second on all slots but one, which is empty first and full of poison then."""
    alone = await good(yard, seconds)
    poisoning = asyncio.ensure_future(poisonous(yard))
    beside = await good(yard, seconds)
    poisoning.cancel()
    deaths = await poisoning
    return {
        "alone_per_s": round(alone, 1),
        "beside_per_s": round(beside, 1),
        "beside_over_alone": round(beside / alone, 3),
        "deaths": deaths,
    }


async def good(yard: Yard, seconds: float) -> float:
    """How many tasks of 50 ms a second end on two slots."""
    until, done = time.monotonic() + seconds, 0

    async def one_after_another() -> None:
        nonlocal done
        while time.monotonic() < until:
            await yard.in_child(("test.work@1", {"seconds": 0.05}))
            done += 1

    await asyncio.gather(*(one_after_another() for _ in range(SLOTS - 1)))
    return done / seconds


async def poisonous(yard: Yard) -> int:
    """Segfaults, exits and endless loops, one every second as backoff spaces them; returns how many ended a child."""
    deaths = 0
    try:
        while True:
            for node in ("test.segfault@1", "test.exit@1", "test.spin@1"):
                try:
                    async with asyncio.timeout(1.0):
                        await yard.in_child((node, {}))
                except (ChildDied, TimeoutError):
                    deaths += 1
                await asyncio.sleep(1.0)
    except asyncio.CancelledError:
        return deaths


if __name__ == "__main__":
    asyncio.run(main())
