"""Nodes whose results are kept; each run of their code leaves a line in the file KEPT_LOG."""

import asyncio
import os
import time
from pathlib import Path
from typing import Annotated, Any

from spindle_worker.node import Artifact, Context, Field, Handle, Inputs, Media, OpenInputs, Outputs, node

Thing = Annotated[Any, Handle("thing")]
Blob = Annotated[Artifact, Media("application/octet-stream")]
_OPEN: dict[str, Any] = {"queue": "async", "open_inputs": "^in[a-z0-9_]*$"}


def _note(ctx: Context) -> None:
    with Path(os.environ["KEPT_LOG"]).open("a") as log:
        log.write(f"{ctx.node}\n")


class WorkInputs(OpenInputs):
    value: Any = Field(None, description="Returned as it is.")
    seconds: float = Field(0.0, ge=0, description="How long it takes.")
    fail: str | None = Field(None, description="A file; while it is there the node fails.")
    hold: str | None = Field(None, description="A file; while it is there the node does not end.")


class WorkOutputs(Outputs):
    value: Any = None


@node("kept.work@1", **_OPEN)
async def work(inputs: WorkInputs, ctx: Context) -> WorkOutputs:
    _note(ctx)
    await asyncio.sleep(inputs.seconds)
    while inputs.hold and Path(inputs.hold).exists():
        await asyncio.sleep(0.05)
    if inputs.fail and Path(inputs.fail).exists():
        raise RuntimeError("as asked")
    return WorkOutputs(value=inputs.value)


class FileOutputs(Outputs):
    file: Blob


@node("kept.file@1", **_OPEN)
async def file(inputs: WorkInputs, ctx: Context) -> FileOutputs:
    _note(ctx)
    return FileOutputs(file=ctx.artifacts.write(str(inputs.value).encode(), "application/octet-stream"))


class MakeInputs(Inputs):
    word: str
    thing: Thing | None = None
    seconds: float = 0.0


class MakeOutputs(Outputs):
    thing: Thing
    length: int


@node("kept.make@1", queue="cpu")
def make(inputs: MakeInputs, ctx: Context) -> MakeOutputs:
    _note(ctx)
    time.sleep(inputs.seconds)
    words = [*(inputs.thing or []), inputs.word]
    return MakeOutputs(thing=words, length=len(words))


class UseInputs(Inputs):
    thing: Thing
    suffix: str = ""


class UseOutputs(Outputs):
    word: str


@node("kept.use@1", queue="cpu")
def use(inputs: UseInputs, ctx: Context) -> UseOutputs:
    _note(ctx)
    return UseOutputs(word=" ".join(inputs.thing) + inputs.suffix)
