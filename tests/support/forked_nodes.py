"""Nodes for tests of repeating: one that draws a seed, one whose result is bytes."""

import random
from typing import Annotated, Any

from PIL import Image as Pillow

from spindle_worker.node import Artifact, Context, Field, Image, Inputs, Media, OpenInputs, Outputs, node
from spindle_worker.pictures import write_picture

Blob = Annotated[Artifact, Media("application/octet-stream")]
_OPEN: dict[str, Any] = {"queue": "async", "open_inputs": "^in[a-z0-9_]*$"}


class DiceInputs(Inputs):
    seed: int = Field(0, ge=0)
    after: Any = None


class DiceOutputs(Outputs):
    seed: int


@node("forked.dice@1", queue="async")
async def dice(inputs: DiceInputs, ctx: Context) -> DiceOutputs:
    del ctx
    return DiceOutputs(seed=inputs.seed)


class NoiseOutputs(Outputs):
    image: Image


@node("forked.noise@1", queue="async")
async def noise(inputs: DiceInputs, ctx: Context) -> NoiseOutputs:
    pixels = random.Random(inputs.seed).randbytes(8 * 8 * 3)
    return NoiseOutputs(image=write_picture(ctx, Pillow.frombytes("RGB", (8, 8), pixels)))


class FileInputs(OpenInputs):
    value: Any = None


class FileOutputs(Outputs):
    file: Blob


@node("forked.file@1", **_OPEN)
async def file(inputs: FileInputs, ctx: Context) -> FileOutputs:
    return FileOutputs(file=ctx.artifacts.write(str(inputs.value).encode(), "application/octet-stream"))
