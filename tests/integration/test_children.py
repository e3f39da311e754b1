"""Children themselves, with real processes: what crosses, what is kept, and what each way of dying ends."""

import asyncio
import base64
import hashlib
import io
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image as Pillow

from spindle_common.artifacts import open_store
from spindle_common.problems import BadInput, NodeFailed, OutOfMemory
from spindle_worker.bounds import Bounds
from spindle_worker.children import ChildDied, Children, Kept, Limits, Loan, Reach, Rearing
from spindle_worker.children.child import GRACE_SECONDS
from spindle_worker.files import Files
from support import native_nodes

MIB = 2**20


@dataclass
class Yard:
    """Children, and an attempt that uses them."""

    children: Children
    files: Files
    ticks: list[dict[str, Any]] = field(default_factory=list)
    previews: list[dict[str, Any]] = field(default_factory=list)

    def reach(self) -> Reach:
        return Reach(
            "a-run",
            "a-node",
            2,
            self.files,
            self.ticks.append,
            self.previews.append,
            provenance=lambda: {"run": "a-run"},
            heard=lambda: None,
        )

    async def call(self, node_type: str, loan: Loan | None = None, **inputs: Any) -> Any:
        own = loan or Loan(self.children, "cpu")
        try:
            async with own.turn() as child:
                return await child.call(node_type, inputs, self.reach())
        finally:
            if loan is None:
                await own.close()

    async def do(self, what: str, **inputs: Any) -> Any:
        return (await self.call("native.do@1", what=what, **inputs)).values


@asynccontextmanager
async def yard_of(folder: Path, **limits: Any) -> AsyncIterator[Yard]:
    rearing = Rearing(
        worker=os.getpid(),
        path=tuple(sys.path),
        preload=("numpy",),
        nodes=(native_nodes.__file__,),
        test_nodes=True,
        data_dir=str(folder),
    )
    queues = {"cpu": 2, "async": 1}
    most = Limits(**{"places": queues, "model_memory": 100, "model_queues": frozenset({"cpu"}), **limits})
    children = Children(rearing, most)
    children.start()
    store = open_store(folder, None)
    try:
        yield Yard(children, Files(store))
    finally:
        await children.close()
        await store.close()


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Yard]:
    async with yard_of(tmp_path) as yard:
        yield yard


async def until(holds: Any, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.01)


# What crosses --------------------------------------------------------------------------------------------------------


async def test_nodes_of_an_attempt_share_a_child_which_keeps_their_handles(yard: Yard) -> None:
    loan = Loan(yard.children, "cpu")
    made = await yard.call("native.make@1", loan, word="hello")
    assert made.values == {"pid": made.handles["thing"].child}
    used = await yard.call("native.use@1", loan, thing=made.handles["thing"])
    assert used.values == {"word": "hello", "pid": made.values["pid"]}
    await loan.close()
    again = await yard.call("native.make@1")
    assert again.values["pid"] == made.values["pid"], "used again, since it was given back last"
    with pytest.raises(ChildDied):
        await yard.call("native.use@1", thing=Kept(made.values["pid"] + 1, 1))


async def test_handles_are_dropped_when_the_attempt_is_over(yard: Yard) -> None:
    made = await yard.call("native.make@1")
    with pytest.raises(NodeFailed, match="handle"):
        await yard.call("native.use@1", thing=made.handles["thing"])


async def test_two_attempts_have_a_child_each_and_a_third_waits(yard: Yard) -> None:
    began = time.monotonic()
    pids = await asyncio.gather(*(yard.call("test.work@1", seconds=0.4) for _ in range(3)))
    assert time.monotonic() - began > 0.8
    assert len(pids) == 3
    assert len(yard.children.pids) == 2


async def test_bytes_go_in_and_out(yard: Yard) -> None:
    data = os.urandom(3 * MIB)
    file = yard.files.write(data, "application/octet-stream").model_dump(mode="json")
    made = (await yard.do("copy", file=file, count=2))["file"]
    digest = "sha256:" + hashlib.sha256(data * 2).hexdigest()
    assert made == {"digest": digest, "media_type": "application/x-copies", "size": 6 * MIB}
    await yard.files.settle()
    assert (await yard.do("own-bytes"))["value"] == 1000
    assert (await yard.do("absent"))["value"] == "ArtifactNotFound"


async def test_a_node_sees_the_context_it_always_saw(yard: Yard) -> None:
    value = (await yard.do("about"))["value"]
    assert value[:3] == ["a-run", "a-node", 2]
    assert value[3:] == [value[3], "tiny", {"run": "a-run"}]


async def test_reports_are_thinned_out_and_the_last_arrives(yard: Yard) -> None:
    await yard.do("report", count=20_000)
    assert yard.ticks[-1] == {"done": 20_000, "total": 20_000}
    assert len(yard.ticks) < 2_000


async def test_previews_come_as_small_jpegs(yard: Yard) -> None:
    await yard.do("preview")
    (preview,) = yard.previews
    picture = Pillow.open(io.BytesIO(base64.b64decode(preview["base64"])))
    assert (picture.format, picture.size) == ("JPEG", (512, 256))


async def test_errors_are_what_they_were(yard: Yard) -> None:
    with pytest.raises(NodeFailed) as own:
        await yard.do("own-error")
    assert own.value.problem() == native_nodes.Own("as asked").problem()
    assert own.value.retry_after == 3
    with pytest.raises(BadInput) as bad:
        await yard.call("test.work@1", seconds=-1)
    assert bad.value.errors[0].pointer == "/inputs/seconds"
    with pytest.raises(NodeFailed, match="SystemExit: goodbye"):
        await yard.do("leave")
    with pytest.raises(NodeFailed, match="cannot travel"):
        await yard.do("huge")
    with pytest.raises(NodeFailed, match="cannot travel"):
        await yard.call("native.make@1", word=float("nan"))


async def test_children_do_not_share_random_numbers(yard: Yard) -> None:
    loans = [Loan(yard.children, "cpu") for _ in range(2)]
    drawn = [(await yard.call("native.do@1", loan, what="random")).values["value"] for loan in loans]
    for loan in loans:
        await loan.close()
    assert len({pid for pid, _ in drawn}) == len({number for _, number in drawn}) == 2


# Dying ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node_type", "words", "exit_"),
    [
        ("test.segfault@1", "was killed by SIGSEGV", (signal.SIGSEGV, None)),
        ("test.exit@1", "exited with status 3", (None, 3)),
    ],
)
async def test_a_death_ends_one_call_and_leaves_the_others(yard: Yard, node_type: str, words: str, exit_: Any) -> None:
    other = asyncio.ensure_future(yard.call("test.work@1", seconds=1.0, value="mine"))
    with pytest.raises(ChildDied, match=words) as died:
        await yard.call(node_type)
    assert died.value.exit == exit_
    assert (await yard.call("test.work@1", value=1)).values == {"value": 1}, "replaced"
    assert (await other).values == {"value": "mine"}


async def test_handles_die_with_their_child(yard: Yard) -> None:
    loan = Loan(yard.children, "cpu")
    made = await yard.call("native.make@1", loan)
    with pytest.raises(ChildDied):
        await yard.call("test.exit@1", loan)
    with pytest.raises(ChildDied):
        await yard.call("native.use@1", loan, thing=made.handles["thing"])
    await loan.close()


@pytest.mark.parametrize("hold", [False, True])
async def test_an_endless_loop_is_ended_once_its_grace_is_over(yard: Yard, hold: bool) -> None:
    loan = Loan(yard.children, "cpu")
    busy = (await yard.call("native.make@1", loan)).values["pid"]
    spinning = asyncio.ensure_future(yard.call("test.spin@1", loan, hold=hold))
    await until(lambda: psutil.Process(busy).cpu_times().user > 0.3)
    began = time.monotonic()
    spinning.cancel()
    await loan.close()
    await until(lambda: not psutil.pid_exists(busy))
    assert GRACE_SECONDS - 0.1 < time.monotonic() - began < GRACE_SECONDS + 30, "the rest is a busy machine's"
    assert GRACE_SECONDS < 2, "of the two seconds in which a cancel reaches what runs"


async def test_a_node_that_looks_is_stopped_without_harm(yard: Yard) -> None:
    loan = Loan(yard.children, "cpu")
    made = await yard.call("native.make@1", loan)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3), loan.turn() as child:
            await child.call("native.do@1", {"what": "until-cancelled"}, yard.reach())
    used = await yard.call("native.use@1", loan, thing=made.handles["thing"])
    assert used.values["pid"] == made.values["pid"], "the same child, its handles still there"
    await loan.close()


async def test_what_a_node_started_ends_with_its_child(yard: Yard) -> None:
    loan = Loan(yard.children, "cpu")
    starting = asyncio.ensure_future(yard.call("native.do@1", loan, what="start"))
    await until(lambda: yard.ticks)
    program = psutil.Process(yard.ticks[0]["done"])
    starting.cancel()
    await loan.close()
    await until(lambda: not program.is_running() or program.status() == psutil.STATUS_ZOMBIE)


async def test_a_child_that_hangs_up_is_replaced(yard: Yard) -> None:
    with pytest.raises(ChildDied):
        await yard.do("hang-up")
    assert await yard.do("report") == {"value": None, "file": None}


async def test_a_killed_forkserver_is_started_again(yard: Yard) -> None:
    working = asyncio.ensure_future(yard.call("test.work@1", seconds=600))
    await until(lambda: yard.ticks)
    before = yard.children.forkserver
    assert before is not None
    os.kill(before, signal.SIGKILL)
    with pytest.raises(ChildDied):
        await working
    assert await yard.do("report") == {"value": None, "file": None}
    assert yard.children.forkserver != before


async def test_a_child_that_outgrows_its_memory_is_killed(tmp_path: Path) -> None:
    async with yard_of(tmp_path, child_memory=400 * MIB) as yard:
        assert (await yard.call("test.hog@1", mebibytes=10)).values == {"value": 10 * MIB}
        with pytest.raises(OutOfMemory, match=r"took \d+ MiB; SPINDLE_CHILD_MEMORY allows 400 MiB"):
            await yard.call("test.hog@1", mebibytes=800, seconds=30)
        assert (await yard.call("test.work@1", value=1)).values == {"value": 1}


async def test_the_kernel_would_choose_a_child_first(yard: Yard) -> None:
    score = (await yard.do("score"))["value"]
    own = Path("/proc/self/oom_score_adj")
    assert score is None or score == min(1000, int(own.read_text()) + 500)


async def test_closing_leaves_no_process(tmp_path: Path) -> None:
    async with yard_of(tmp_path) as yard:
        spinning = asyncio.ensure_future(yard.call("test.spin@1"))
        await yard.call("test.work@1")
        everyone = [yard.children.forkserver, *yard.children.pids]
        began = time.monotonic()
    assert time.monotonic() - began < 60, "killed, not waited for"
    assert not [pid for pid in everyone if pid is not None and psutil.pid_exists(pid)]
    with pytest.raises(ChildDied):
        await spinning


# Memory of models ----------------------------------------------------------------------------------------------------


async def test_idle_children_make_room_for_anothers_models(yard: Yard) -> None:
    one, two = Loan(yard.children, "cpu"), Loan(yard.children, "cpu")
    async with one.turn() as child, two.turn() as other:
        assert yard.children.room(child, 60)
        assert not yard.children.room(other, 50), "the other is at work"
        assert yard.children.room(other, 40)
        assert yard.children.room(child, 10), "letting go is always granted"
        assert yard.children.room(child, 60)
    await one.close()
    assert yard.children.room(other, 100), "idle now, so it is ended"
    await until(lambda: yard.children.pids == [other.pid])
    await two.close()


async def test_bounds_of_silence() -> None:
    bounds = Bounds(None, 1.0)

    async def speak() -> str:
        for _ in range(15):
            await asyncio.sleep(0.1)
            bounds.heard()
        return "done"

    assert await bounds.keep(speak()) == "done"
    with pytest.raises(NodeFailed, match=r"reported nothing for 1 s"):
        await bounds.keep(asyncio.sleep(600))
    with pytest.raises(NodeFailed, match=r"longer than 0\.1 s"):
        await Bounds(0.1, 60).keep(asyncio.sleep(600))
