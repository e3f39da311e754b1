"""Node types for chaos, loaded by the workers with SPINDLE_NODES: each execution is written to a file of its own.

    chaos.work@1   sleeps, fails as often as asked, gives a value
    chaos.write@1  writes an artifact whose bytes follow from a seed
    chaos.read@1   reads one back, in a child or thread, and gives its digest

The file (CHAOS_LOG) is evidence that no part of Spindle wrote: one line when a node begins, one when it ends.
"""

import asyncio
import hashlib
import json
import os
import random
import time
from pathlib import Path
from typing import Annotated, Any

from spindle_worker.node import Artifact, Context, Field, Inputs, Media, OpenInputs, Outputs, node

_OPEN: dict[str, Any] = {"queue": "async", "open_inputs": "^in[a-z0-9_]*$", "cacheable": False}
_TICK_SECONDS = 0.1
Blob = Annotated[Artifact, Media("application/octet-stream")]


def blob(seed: int, size: int) -> bytes:
    """The bytes that `chaos.write@1` writes."""
    return random.Random(seed).randbytes(size)


def _note(what: str, ctx: Context) -> None:
    line = {"what": what, "at": time.time(), "run": ctx.run, "node": ctx.node, "attempt": ctx.attempt}
    file = os.open(Path(os.environ["CHAOS_LOG"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, json.dumps(line | {"pid": os.getpid()}).encode() + b"\n")
    finally:
        os.close(file)


class WorkInputs(OpenInputs):
    value: Any = Field(None, description="Returned as it is.")
    seconds: float = Field(0.0, ge=0, le=3600, description="How long to sleep.")
    failures: int = Field(0, ge=0, le=1000, description="How many attempts fail.")


class WorkOutputs(Outputs):
    value: Any = None


@node("chaos.work@1", **_OPEN)
async def work(inputs: WorkInputs, ctx: Context) -> WorkOutputs:
    _note("begin", ctx)
    try:
        await _sleep(inputs.seconds, ctx)
    except BaseException:
        _note("stop", ctx)
        raise
    if ctx.attempt <= inputs.failures:
        _note("fail", ctx)
        raise RuntimeError(f"attempt {ctx.attempt} fails as asked")
    _note("end", ctx)
    return WorkOutputs(value=inputs.value)


async def _sleep(seconds: float, ctx: Context) -> None:
    total = max(1, round(seconds / _TICK_SECONDS))
    for done in range(total):
        await asyncio.sleep(seconds / total)
        if seconds >= _TICK_SECONDS:
            ctx.progress(done + 1, total)


class WriteInputs(OpenInputs):
    seed: int = Field(ge=0, description="From what the bytes follow.")
    size: int = Field(1000, ge=1, le=64 * 1024 * 1024, description="How many bytes.")


class WriteOutputs(Outputs):
    file: Blob


@node("chaos.write@1", **_OPEN)
async def write(inputs: WriteInputs, ctx: Context) -> WriteOutputs:
    _note("begin", ctx)
    artifact = ctx.artifacts.write(blob(inputs.seed, inputs.size), "application/octet-stream")
    _note("end", ctx)
    return WriteOutputs(file=artifact)


class ReadInputs(Inputs):
    file: Blob


class ReadOutputs(Outputs):
    value: str


@node("chaos.read@1", queue="cpu", cacheable=False)
def read(inputs: ReadInputs, ctx: Context) -> ReadOutputs:
    _note("begin", ctx)
    value = "sha256:" + hashlib.sha256(ctx.artifacts.read(inputs.file)).hexdigest()
    _note("end", ctx)
    return ReadOutputs(value=value)
