"""Native nodes for tests of children, loaded from this file as anyone's nodes are (`SPINDLE_NODES`)."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any

from PIL import Image as Pillow

from spindle_common.problems import NodeFailed, NotFound
from spindle_worker.node import Artifact, Context, Handle, Inputs, Media, Outputs, node

Thing = Annotated[Any, Handle("thing")]
Blob = Annotated[Artifact, Media("application/*")]


class Own(NodeFailed):
    """An error that only this file knows."""

    code, title, status, retryable = "own", "A node author's own error", 418, True


class MakeInputs(Inputs):
    word: str = "thing"


class MakeOutputs(Outputs):
    thing: Thing
    pid: int


class Secretive:
    """Cannot be written down in any way."""

    def __init__(self, word: str) -> None:
        self.word, self.lock = word, threading.Lock()


@node("native.make@1", queue="cpu", cacheable=False)
def make(inputs: MakeInputs, ctx: Context) -> MakeOutputs:
    del ctx
    return MakeOutputs(thing=Secretive(inputs.word), pid=os.getpid())


class UseInputs(Inputs):
    thing: Thing


class UseOutputs(Outputs):
    word: str
    pid: int


@node("native.use@1", queue="cpu", cacheable=False)
def use(inputs: UseInputs, ctx: Context) -> UseOutputs:
    del ctx
    return UseOutputs(word=inputs.thing.word, pid=os.getpid())


class DoInputs(Inputs):
    what: str
    count: int = 1
    file: Blob | None = None


class DoOutputs(Outputs):
    value: Any = None
    file: Blob | None = None


@node("native.do@1", queue="cpu", cacheable=False)
def do(inputs: DoInputs, ctx: Context) -> DoOutputs:
    return DEEDS[inputs.what](inputs, ctx)


def _own_error(inputs: DoInputs, ctx: Context) -> DoOutputs:
    raise Own("as asked", retry_after=3.0)


def _leave(inputs: DoInputs, ctx: Context) -> DoOutputs:
    sys.exit("goodbye")


def _huge(inputs: DoInputs, ctx: Context) -> DoOutputs:
    return DoOutputs(value="x" * (65 * 2**20))


def _report(inputs: DoInputs, ctx: Context) -> DoOutputs:
    for done in range(inputs.count):
        ctx.progress(done + 1, inputs.count)
    return DoOutputs()


def _preview(inputs: DoInputs, ctx: Context) -> DoOutputs:
    ctx.preview(Pillow.new("RGB", (2000, 1000), "red"))
    ctx.preview(Pillow.new("RGB", (8, 8), "blue"))  # too soon: dropped
    time.sleep(0.5)
    return DoOutputs()


def _copy(inputs: DoInputs, ctx: Context) -> DoOutputs:
    assert inputs.file is not None
    return DoOutputs(file=ctx.artifacts.write(ctx.artifacts.read(inputs.file) * inputs.count, "application/x-copies"))


def _own_bytes(inputs: DoInputs, ctx: Context) -> DoOutputs:
    written = ctx.artifacts.write(os.urandom(1000), "application/octet-stream")
    return DoOutputs(value=len(ctx.artifacts.read(written)))


def _absent(inputs: DoInputs, ctx: Context) -> DoOutputs:
    try:
        ctx.artifacts.read(Artifact(digest="sha256:" + "0" * 64, media_type="image/png", size=1))
    except NotFound as error:
        return DoOutputs(value=type(error).__name__)
    raise AssertionError


def _about(inputs: DoInputs, ctx: Context) -> DoOutputs:
    ctx.logger.warning("said in a child")
    about = [ctx.run, ctx.node, ctx.attempt, ctx.seed_for(), ctx.models.recipe(None)["model"]]
    return DoOutputs(value=[*about, dict(ctx.provenance())])


def _start(inputs: DoInputs, ctx: Context) -> DoOutputs:
    """Start a program that would outlive us, say its number, and never come back."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    ctx.progress(program.pid, program.pid)
    time.sleep(600)
    return DoOutputs()


def _hang_up(inputs: DoInputs, ctx: Context) -> DoOutputs:
    os.closerange(3, 256)
    return DoOutputs()


def _until_cancelled(inputs: DoInputs, ctx: Context) -> DoOutputs:
    while True:
        ctx.check_cancelled()
        time.sleep(0.01)


def _random(inputs: DoInputs, ctx: Context) -> DoOutputs:
    numpy = sys.modules.get("numpy")
    return DoOutputs(value=[os.getpid(), None if numpy is None else numpy.random.random()])


def _score(inputs: DoInputs, ctx: Context) -> DoOutputs:
    place = Path("/proc/self/oom_score_adj")
    return DoOutputs(value=int(place.read_text()) if place.exists() else None)


DEEDS = {
    "own-error": _own_error,
    "leave": _leave,
    "huge": _huge,
    "report": _report,
    "preview": _preview,
    "copy": _copy,
    "own-bytes": _own_bytes,
    "absent": _absent,
    "about": _about,
    "start": _start,
    "hang-up": _hang_up,
    "until-cancelled": _until_cancelled,
    "random": _random,
    "score": _score,
}
