"""Nodes for tests and benchmarks, offered only with SPINDLE_TEST_NODES=1: any inputs named `in…`, results never kept.

noop, sleep, fail            light, well-behaved
block, crash                 light, and a burden to their worker: block its event loop, kill it
work                         native, well-behaved
segfault, exit, spin, hog    native poison: what it ends is a child process
"""

import asyncio
import ctypes
import os
import re
import signal
import time
from typing import Any

from spindle_worker.node import Context, Field, OpenInputs, Outputs, node

_OPEN: dict[str, Any] = {"queue": "async", "open_inputs": "^in[a-z0-9_]*$", "cacheable": False}
_NATIVE: dict[str, Any] = _OPEN | {"queue": "cpu"}
_TICK_SECONDS = 0.1


class AnyInputs(OpenInputs):
    """Inputs named `in…`, of any value, and a value to return."""

    value: Any = Field(None, description="Returned as it is.")


class SleepInputs(AnyInputs):
    """The same, and a time."""

    seconds: float = Field(0.0, ge=0, le=3600, description="How long to sleep.")


class FailInputs(AnyInputs):
    """The same, and what to say."""

    message: str = Field("failed as asked", max_length=1000, description="The problem's detail.")


class AnyOutputs(Outputs):
    """One value."""

    value: Any = None


@node("test.noop@1", title="Do nothing", **_OPEN)
async def noop(inputs: AnyInputs, ctx: Context) -> AnyOutputs:
    """Return `value`."""
    del ctx
    return AnyOutputs(value=inputs.value)


@node("test.sleep@1", title="Sleep", **_OPEN)
async def sleep(inputs: SleepInputs, ctx: Context) -> AnyOutputs:
    """Sleep for `seconds`, reporting progress ten times a second, then return `value`."""
    total = max(1, round(inputs.seconds / _TICK_SECONDS))
    for done in range(total):
        await asyncio.sleep(inputs.seconds / total)
        if inputs.seconds >= _TICK_SECONDS:
            ctx.progress(done + 1, total)
    return AnyOutputs(value=inputs.value)


@node("test.fail@1", title="Fail", **_OPEN)
async def fail(inputs: FailInputs, ctx: Context) -> AnyOutputs:
    """Fail with `message`."""
    del ctx
    raise RuntimeError(inputs.message)


@node("test.crash@1", title="Crash the worker", **_OPEN)
async def crash(inputs: AnyInputs, ctx: Context) -> AnyOutputs:
    """Kill the worker's process at once, as a segmentation fault would."""
    del inputs, ctx
    os.kill(os.getpid(), signal.SIGKILL)
    return AnyOutputs()


@node("test.block@1", title="Block the worker's event loop", **_OPEN)
async def block(inputs: SleepInputs, ctx: Context) -> AnyOutputs:
    """Sleep for `seconds` as no light node should: nothing else on the worker's event loop goes on meanwhile."""
    del ctx
    time.sleep(inputs.seconds)  # noqa: ASYNC251
    return AnyOutputs(value=inputs.value)


class WorkInputs(SleepInputs):
    """The same, and whether to report."""

    report: bool = Field(True, description="Whether to report progress ten times a second, and so notice a cancel.")


@node("test.work@1", title="Native work", **_NATIVE)
def work(inputs: WorkInputs, ctx: Context) -> AnyOutputs:
    """Sleep for `seconds` in a child process, then return `value`."""
    total = max(1, round(inputs.seconds / _TICK_SECONDS))
    for done in range(total):
        time.sleep(inputs.seconds / total)
        if inputs.report and inputs.seconds >= _TICK_SECONDS:
            ctx.progress(done + 1, total)
    return AnyOutputs(value=inputs.value)


@node("test.segfault@1", title="Read where nothing is", **_NATIVE)
def segfault(inputs: AnyInputs, ctx: Context) -> AnyOutputs:
    """End the process by a segmentation fault."""
    del inputs, ctx
    ctypes.string_at(0)
    return AnyOutputs()


class ExitInputs(AnyInputs):
    """The same, and a status."""

    status: int = Field(3, ge=0, le=255, description="The process's exit status.")


@node("test.exit@1", title="Leave the process", **_NATIVE)
def leave(inputs: ExitInputs, ctx: Context) -> AnyOutputs:
    """End the process at once, as some libraries do."""
    del ctx
    os._exit(inputs.status)


class SpinInputs(AnyInputs):
    """The same, and where to spin."""

    hold: bool = Field(False, description="In one call of C that never lets go of the interpreter.")


@node("test.spin@1", title="Never end", **_NATIVE)
def spin(inputs: SpinInputs, ctx: Context) -> AnyOutputs:
    """Loop for ever and look at nothing."""
    del ctx
    if inputs.hold:
        re.match("(a+)+$", "a" * 100 + "b")  # 2**100 ways to fail
    while True:
        pass


class HogInputs(SleepInputs):
    """The same, and how much."""

    mebibytes: int = Field(ge=1, le=65536, description="Memory to take and write to.")


@node("test.hog@1", title="Take memory", **_NATIVE)
def hog(inputs: HogInputs, ctx: Context) -> AnyOutputs:
    """Take memory and hold it for `seconds`."""
    held = bytearray(inputs.mebibytes * 2**20)
    held[::4096] = b"\1" * len(held[::4096])
    until = time.monotonic() + inputs.seconds
    while time.monotonic() < until:
        time.sleep(_TICK_SECONDS)
        ctx.check_cancelled()
    return AnyOutputs(value=len(held))
