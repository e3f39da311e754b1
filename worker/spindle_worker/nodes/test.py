"""Nodes for tests and benchmarks, offered only with SPINDLE_TEST_NODES=1; they take any inputs named `in…`."""

import asyncio
import os
import signal
from typing import Any

from spindle_worker.node import Context, Field, OpenInputs, Outputs, node

_OPEN: dict[str, Any] = {"queue": "async", "open_inputs": "^in[a-z0-9_]*$"}
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
