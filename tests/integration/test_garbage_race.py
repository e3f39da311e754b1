"""Writers against a collector without any grace: no outcome that was committed ever names bytes that cannot be read."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spindle_common import keys
from spindle_common.artifacts import ArtifactNotFound, ArtifactStore, open_store
from spindle_common.artifacts.directory import DirectoryStore
from spindle_common.contracts import Artifact
from spindle_common.garbage import Garbage
from spindle_common.problems import Unavailable
from spindle_common.queue import NodeEnd, Offer, Queue, Right, compact, outcome_text
from spindle_control.garbage import Collector, Policy
from spindle_control.retention import Retention
from spindle_worker import files as files_module
from spindle_worker.committer import Committer
from spindle_worker.files import Files
from support.garbage import Dump, dump, sparing_for
from support.rows import a_run

FIELDS: dict[str, str | int | float] = {
    "tenant": "default",
    "weight": 1,
    "priority": 0,
    "workflow": "{}",
    "inputs": "{}",
    "plan": "{}",
    "traceparent": "",
}
SECONDS, AT_MOST = 8.0, 120.0
SPARED_MS = 1500
CONTENTS = 60
WRITERS = 8
NO_GRACE = Policy(runs=3.0, artifacts=0, idempotency=0)


@pytest.fixture
async def heap(queue: Queue, tmp_path: Path) -> AsyncIterator[Dump]:
    async with dump(Garbage(queue.client, sparing_for(SPARED_MS)), tmp_path) as made:
        yield made


@pytest.fixture
async def announced(heap: Dump) -> AsyncIterator[ArtifactStore]:
    store = open_store(heap.folder, announce=heap.garbage.spare)
    yield store
    await store.close()


async def a_task(heap: Dump, run: str, queue: str) -> Right:
    await heap.garbage.open(run, status="running", owner="c1", epoch=1, fields=FIELDS)
    await heap.garbage.dispatch(run, 1, [Offer("a", queue, "{}", ["a"], ["a"])], 3)
    (taken,) = await heap.garbage.take("w1", run, 30.0, {queue: 1})
    return Right(taken.task, taken.attempt, run)


def ending(artifact: Artifact) -> NodeEnd:
    outputs = {"image": artifact.model_dump(mode="json")}
    return NodeEnd("a", outcome_text("completed", outputs=outputs), compact({"outputs": outputs}))


class Writer:
    """Runs one run after the other: writes, commits, looks, archives, looks again, lets go."""

    def __init__(self, heap: Dump, store: ArtifactStore, number: int) -> None:
        self._heap, self._store, self._queue = heap, store, f"q{number}"
        self._dice = random.Random(number)
        self.committed = 0
        self.unreadable: list[str] = []

    async def work(self, over: asyncio.Event) -> None:
        number = 0
        while not over.is_set():
            number += 1
            await self._one(f"{self._queue}-{number}")

    async def _one(self, run: str) -> None:
        heap = self._heap
        await heap.store.insert_run(a_run(run, status="running", owner="c1", epoch=1))
        right = await a_task(heap, run, self._queue)
        files = Files(self._store)
        artifact = files.write(b"content %d" % self._dice.randrange(CONTENTS), "text/plain")
        await files.settle()
        await asyncio.sleep(self._dice.uniform(0, 0.05))
        committer = Committer(heap.garbage, right, files.renew)
        committer.ended(ending(artifact), last=True)
        await committer.finish(last=True)
        self.committed += 1
        for _ in range(self._dice.randrange(1, 20)):
            await self._look(artifact.digest, f"{run} in flight")
            await asyncio.sleep(0.02)
        await self._archive(run)
        await self._look(artifact.digest, f"{run} in the archive")

    async def _archive(self, run: str) -> None:
        heap = self._heap
        await heap.garbage.finish(run, 1, "completed", "{}")
        (ended_at,) = await heap.garbage.run_fields(run, "ended_at")
        nodes = await heap.garbage.ledger(run)
        await heap.store.end_run(run, 1, "completed", int(ended_at or 0), nodes=nodes, events=[])
        await heap.garbage.archive(run, 0)

    async def _look(self, digest: str, when: str) -> None:
        try:
            await self._store.read(digest)
        except ArtifactNotFound:
            self.unreadable.append(when)


class Slow(DirectoryStore):
    """A folder that takes its time to delete, as a distant bucket does."""

    async def delete(self, digest: str) -> None:
        await asyncio.sleep(random.uniform(0, 0.1))
        await super().delete(digest)


async def test_committed_bytes_survive_a_collector_that_never_rests(heap: Dump, announced: ArtifactStore) -> None:
    await heap.garbage.register("w1", 600.0, "{}", {f"q{n}": 1 for n in range(WRITERS)})
    writers = [Writer(heap, announced, number) for number in range(WRITERS)]
    began, over = time.monotonic(), asyncio.Event()
    deleted = runs = 0
    slow = Slow(heap.folder / "artifacts")

    async def collect() -> None:
        nonlocal deleted, runs
        collector = Collector(heap.garbage, Retention(heap.store), slow, NO_GRACE)
        while not over.is_set():
            report = await collector.collect()
            assert report is not None
            deleted, runs = deleted + report.artifacts.count, runs + report.runs.count
            took = time.monotonic() - began
            if took > SECONDS and (enough() or took > AT_MOST):
                over.set()

    def enough() -> bool:
        return sum(writer.committed for writer in writers) > 50 and deleted > 20 and runs > 20

    async with asyncio.TaskGroup() as group:
        for work in (collect(), *(writer.work(over) for writer in writers)):
            group.create_task(work)
    await slow.close()
    assert [when for writer in writers for when in writer.unreadable] == []
    assert enough(), "the collector found nothing to do: this proves nothing"


async def test_bytes_that_were_being_deleted_are_written_again_before_their_commit(heap: Dump) -> None:
    """By a writer that did not announce them, or long ago."""
    await heap.garbage.register("w1", 60.0, "{}", {"cpu": 1})
    right = await a_task(heap, "r1", "cpu")
    files = Files(heap.artifacts)
    artifact = files.write(b"slow", "text/plain")
    await files.settle()
    await heap.garbage.condemn("c", [artifact.digest])
    began = await heap.garbage.execute("c", artifact.digest)
    await heap.artifacts.delete(artifact.digest)
    committer = Committer(heap.garbage, right, files.renew)
    committer.ended(ending(artifact), last=True)
    finishing = asyncio.ensure_future(committer.finish(last=True))
    await asyncio.sleep(0.3)
    assert not finishing.done()
    assert (await heap.garbage.ledger("r1"))["a"]["status"] == "running"
    await heap.garbage.deleted(artifact.digest, began)
    await asyncio.wait_for(finishing, 10)
    assert (await heap.garbage.ledger("r1"))["a"]["status"] == "completed"
    assert await heap.artifacts.read(artifact.digest) == b"slow"


async def test_bytes_written_long_before_the_node_ends_are_touched(
    heap: Dump, announced: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(announced)
    artifact = files.write(b"early", "text/plain")
    await files.settle()
    await asyncio.sleep(0.01)
    await announced.delete(artifact.digest)
    await files.settle()
    with pytest.raises(ArtifactNotFound):
        await announced.read(artifact.digest)
    monkeypatch.setattr(files_module, "_FRESH_SECONDS", 0.0)
    await asyncio.sleep(0.01)
    await files.settle()
    assert await announced.read(artifact.digest) == b"early"


async def test_a_run_that_names_what_is_being_deleted_is_told_to_come_again(heap: Dump) -> None:
    digest = await heap.put("input")
    await heap.garbage.condemn("c", [digest])
    began = await heap.garbage.execute("c", digest)
    named = FIELDS | {"inputs": compact({"photo": {"digest": digest}})}
    with pytest.raises(Unavailable):
        await heap.garbage.open("r1", status="running", owner="c1", epoch=1, fields=named)
    assert not await heap.garbage.client.exists(keys.run("r1"))
    await heap.garbage.deleted(digest, began)
    assert await heap.garbage.open("r1", status="running", owner="c1", epoch=1, fields=named) == "opened"
