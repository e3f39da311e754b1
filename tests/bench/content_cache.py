"""What the content cache costs a node that does nothing: not used, looked for in vain, found.

    python tests/bench/content_cache.py     JSON on standard output: milliseconds of an attempt with one node, medians

Real Redis, real folder, attempts in this process, taken in turn so that a busy machine weighs on all alike. `cpu` is
this process's own time, which holds still on such a machine. `key` is the time to name a node; a miss holds its look
and the shelf, a hit its look, and the touch of the bytes that it names.
"""

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import uvloop

from spindle_common.connection import connect
from spindle_worker.node import Artifact, Context, Media, OpenInputs, Outputs, node
from spindle_worker.reuse import Keys
from support.desk import Desk
from support.redis_server import RedisServer

ROUNDS = 400
Blob = Annotated[Artifact, Media("application/octet-stream")]


class NoopInputs(OpenInputs):
    value: Any = None


class NoopOutputs(Outputs):
    value: Any = None


class FileOutputs(Outputs):
    file: Blob


@node("bench.noop@1", queue="async")
async def noop(inputs: NoopInputs, ctx: Context) -> NoopOutputs:
    return NoopOutputs(value=inputs.value)


@node("bench.file@1", queue="async")
async def file(inputs: NoopInputs, ctx: Context) -> FileOutputs:
    return FileOutputs(file=ctx.artifacts.write(b"x" * 10_000, "application/octet-stream"))


NODES: list[Any] = [noop, file]


async def attempt(desk: Desk, run: str, type_: str, value: Any) -> tuple[float, float]:
    """Milliseconds of one attempt, and of processor time in it."""
    await desk.open(run)
    await desk.dispatch(run, {"a": {"type": type_, "inputs": {"value": value}}})
    (taken,) = await desk.take()
    began, busy = time.perf_counter(), time.process_time()
    assert await taken.run() == "done"
    spent = (time.perf_counter() - began) * 1000, (time.process_time() - busy) * 1000
    await desk.queue.finish(run, None, "completed", "{}")
    return spent


async def measure(folder: Path, url: str) -> dict[str, dict[str, float]]:
    """Take the kinds in turn."""
    client = connect(url)
    specs = [each.spec for each in NODES]
    on = Desk(client, folder, specs, "on")
    off = Desk(client, folder, specs, "off", caches=False)
    await attempt(on, "warm", "bench.noop@1", "same")
    await attempt(on, "warm2", "bench.file@1", "same")
    kinds = {
        "off": (off, "bench.noop@1", None),
        "miss": (on, "bench.noop@1", None),
        "hit": (on, "bench.noop@1", "same"),
        "hit_with_bytes": (on, "bench.file@1", "same"),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in kinds}
    for at in range(ROUNDS):
        for name, (desk, type_, value) in kinds.items():
            found[name].append(await attempt(desk, f"{name}{at}", type_, value or [name, at]))
    await on.close()
    await off.close()
    await client.aclose()
    return {
        name: {
            "wall": round(statistics.median(wall for wall, _ in times), 3),
            "least": round(min(wall for wall, _ in times), 3),
            "cpu": round(statistics.median(cpu for _, cpu in times), 3),
        }
        for name, times in found.items()
    }


def key_milliseconds() -> float:
    """Time to name a node with the inputs of a picture."""
    keys, inputs = Keys({}), {"prompt": "a large red circle " * 20, "seed": 7, "steps": 20, "guidance": 7.5}
    keys.of(noop.spec, inputs)  # type: ignore[attr-defined]
    began = time.process_time()
    for _ in range(1000):
        keys.of(noop.spec, inputs)  # type: ignore[attr-defined]
    return round(time.process_time() - began, 4)


def main() -> None:
    """Print what was measured."""
    with tempfile.TemporaryDirectory() as name:
        server = RedisServer(Path(name) / "redis")
        server.start()
        try:
            found = uvloop.run(measure(Path(name), server.url))
        finally:
            server.stop()
    json.dump(found | {"key": key_milliseconds()}, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
