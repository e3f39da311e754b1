"""Garbage collection on a real Redis, database and folder: what goes, what stays, and who saves what in between."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spindle_common import keys
from spindle_common.artifacts import StoreUnavailable
from spindle_common.garbage import Garbage
from spindle_common.problems import NotFound
from spindle_common.queue import NodeEnd, Offer, Queue, Right, compact, outcome_text
from spindle_control.conditions import Condition
from spindle_control.garbage import Collector, Policy, Superseded
from spindle_control.retention import Retention
from support.garbage import HOUR, HOURLY, Dump, dump
from support.library import open_library, words
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
LONG_AGO = 1_700_000_000_000


@pytest.fixture
async def heap(queue: Queue, tmp_path: Path) -> AsyncIterator[Dump]:
    async with dump(Garbage(queue.client), tmp_path) as made:
        yield made


def artifact(digest: str) -> dict[str, Any]:
    return {"digest": digest, "media_type": "text/plain", "size": 3}


def completed(digest: str) -> dict[str, Any]:
    return {"status": "completed", "outputs": {"image": artifact(digest)}}


def end_of(path: str, digest: str) -> NodeEnd:
    outputs = {"image": artifact(digest)}
    return NodeEnd(path, outcome_text("completed", outputs=outputs), compact({"outputs": outputs}))


async def ended_run(heap: Dump, run: str, ended_at: int = LONG_AGO, **columns: Any) -> None:
    await heap.store.insert_run(a_run(run, status="running", owner="c", epoch=1, created_at=ended_at))
    assert await heap.store.end_run(run, 1, "completed", ended_at, events=[], **columns)


async def running(heap: Dump, run: str = "r1", **fields: str) -> Right:
    """A run in Redis one of whose tasks was taken."""
    await heap.garbage.open(run, status="running", owner="c1", epoch=1, fields=FIELDS | fields)
    await heap.garbage.register("w1", 30.0, "{}", {"cpu": 9})
    await heap.garbage.dispatch(run, 1, [Offer("a", "cpu", "{}", ["a"], ["a"])], 3)
    (taken,) = await heap.garbage.take("w1", run, 30.0, {"cpu": 1})
    return Right(taken.task, taken.attempt, run)


async def test_only_old_bytes_that_nobody_names_go(heap: Dump) -> None:
    old = await heap.put("old")
    young = await heap.put("young", age=60)
    report = await heap.collector().collect()
    assert report is not None
    assert await heap.kept() == {young}
    assert (report.artifacts.count, report.artifacts.bytes) == (1, 3)
    assert report.artifacts.first[0]["digest"] == old


async def test_whatever_names_bytes_keeps_them(heap: Dump) -> None:
    """One digest for each place that may name one."""
    names = (
        "inputs",
        "outputs",
        "nodes",
        "problem",
        "events",
        "literal",
        "live inputs",
        "live outcome",
        "body",
        "dead",
    )
    digests = {name: await heap.put(name) for name in names}
    gone = await heap.put("nobody")
    document = a_run().workflow | {"nodes": {"a": {"inputs": {"x": artifact(digests["literal"])}}}}
    row = a_run("r1", status="running", epoch=1, workflow=document, inputs={"x": artifact(digests["inputs"])})
    await heap.store.insert_run(row)
    event = {"id": "1700-0", "type": "x", "data": artifact(digests["events"])}
    nodes, outputs = {"a": completed(digests["nodes"])}, {"x": artifact(digests["outputs"])}
    problem = {"detail": f"cannot read {digests['problem']}"}
    await heap.store.end_run("r1", 1, "failed", LONG_AGO, outputs=outputs, problem=problem, nodes=nodes, events=[event])
    right = await running(heap, "r2", inputs=compact({"x": artifact(digests["live inputs"])}))
    await heap.garbage.commit(right, [end_of("a", digests["live outcome"])], last=True)
    waiting = Offer("b", "gpu", compact({"feed": artifact(digests["body"])}), ["b"], ["b"])
    await heap.garbage.dispatch("r2", 1, [waiting], 3)
    await heap.garbage.client.xadd(keys.DEAD, {"problem": compact(artifact(digests["dead"]))})
    await heap.collector().collect()
    kept = await heap.kept()
    assert gone not in kept
    assert {name for name, digest in digests.items() if digest not in kept} == set()


async def test_what_a_spilled_value_names_is_kept(heap: Dump) -> None:
    """A long list of pictures is bytes of its own; those who read it find the pictures, too."""
    pictures = [await heap.put(f"picture {at}") for at in range(3)]
    ended = await heap.put(compact([artifact(digest) for digest in pictures[:2]]))
    live = await heap.put(compact([artifact(pictures[2])]))
    lost = "sha256:" + "0" * 64
    spilled = {"list": {"$spilled": artifact(ended)}, "lost": {"$spilled": artifact(lost)}}
    await ended_run(heap, "r1", nodes={"a": {"status": "completed", "outputs": spilled}}, outputs=spilled)
    right = await running(heap, "r2")
    outputs = {"list": {"$spilled": artifact(live)}}
    end = NodeEnd("a", outcome_text("completed", outputs=outputs), compact({"outputs": outputs}))
    await heap.garbage.commit(right, [end], last=True)
    assert [await heap.collector().dry_run(), await heap.collector().collect()]
    assert await heap.kept() == {*pictures, ended, live}
    await heap.collector(replace(HOURLY, runs=0)).collect()
    assert await heap.kept() == {pictures[2], live}


async def test_a_paused_run_keeps_what_it_was_parked_with(heap: Dump) -> None:
    digest = await heap.put("parked")
    await heap.store.insert_run(a_run("r1", status="running", owner="c", epoch=1))
    event = {"id": "1700-0", "type": "run.paused", "time": "", "data": {}}
    assert await heap.store.park_run("r1", 1, {"a": completed(digest)}, {"plan": "{}"}, [event])
    await heap.collector(replace(HOURLY, runs=0)).collect()
    assert await heap.kept() == {digest}


async def test_what_a_stored_workflow_names_stays_in_every_version_and_when_it_is_hidden(heap: Dump) -> None:
    library = await open_library(heap.garbage, heap.store)
    digests = [await heap.put(f"version {n}") for n in range(110)]  # more than two pages
    for digest in digests[:100]:
        await library.put("default", "poster", words(x=artifact(digest)), Condition())
    for n, digest in enumerate(digests[100:]):
        await library.put(f"tenant{n}", "poster", words(x=artifact(digest)), Condition())
    await library.hide("default", "poster", Condition())
    gone = await heap.put("nobody")
    await heap.garbage.client.delete(keys.PREFIX + "spared")
    report = await heap.collector().collect()
    assert report is not None
    assert report.artifacts.count == 1
    assert await heap.kept() == set(digests)
    assert gone not in digests


async def test_many_rows_are_looked_at(heap: Dump) -> None:
    digests = [await heap.put(f"bytes {n}") for n in range(130)]
    for n, digest in enumerate(digests):
        await ended_run(heap, f"r{n:03}", outputs={"x": artifact(digest)})
    gone = await heap.put("nobody")
    report = await heap.collector().collect()
    assert report is not None
    assert report.artifacts.count == 1
    assert await heap.kept() == set(digests)
    assert gone not in digests


async def test_old_runs_go_with_their_bytes_keys_and_events(heap: Dump) -> None:
    now = int(time.time() * 1000)
    for n in range(450):  # more than two pages
        await ended_run(heap, f"old{n:03}")
    lost, kept = await heap.put("lost"), await heap.put("kept")
    await ended_run(heap, "older", outputs={"x": artifact(lost)})
    await ended_run(heap, "young", now - 60_000, outputs={"x": artifact(kept)})
    await heap.store.insert_run(a_run("open", status="running", owner="c", epoch=1, parent="older"))
    report = await heap.collector(replace(HOURLY, runs=HOUR)).collect()
    assert report is not None
    assert report.runs.count == 451
    assert await heap.kept() == {kept}
    page, _ = await heap.store.runs("default", limit=1000)
    assert {row.id for row in page} == {"young", "open"}
    assert await heap.store.archived_events("older") is None
    with pytest.raises(NotFound):
        await heap.store.run("older")


async def test_runs_are_kept_for_ever_unless_someone_says_otherwise(heap: Dump) -> None:
    await ended_run(heap, "old")
    report = await heap.collector().collect()
    assert report is not None
    assert report.runs.count == 0
    assert (await heap.store.run("old")).status == "completed"


async def test_a_spent_idempotency_key_may_be_used_again(heap: Dump) -> None:
    now = int(time.time() * 1000)
    await heap.store.insert_run(a_run("old", created_at=now - 7_200_000), ("key", "digest"))
    await heap.store.insert_run(a_run("young", created_at=now), ("other", "digest"))
    report = await heap.collector().collect()
    assert report is not None
    assert report.idempotency_keys == 1
    assert (await heap.store.insert_run(a_run("new"), ("key", "changed"))).id == "new"
    assert (await heap.store.insert_run(a_run("newer"), ("other", "digest"))).id == "young"


async def test_expired_tickets_go(heap: Dump) -> None:
    now = int(time.time() * 1000)
    await heap.store.add_ticket("good", "default", now + 3_600_000)
    await heap.store.add_ticket("spent", "default", now - 1)  # each new one takes away those that are spent by then
    report = await heap.collector().collect()
    assert report is not None
    assert report.tickets == 1
    assert await heap.store.take_ticket("good") == "default"


async def test_what_dead_uploads_left_goes(heap: Dump) -> None:
    digest = await heap.put("whole", age=0)
    drafts = heap.folder / "artifacts" / "tmp"
    shard = heap.folder / "artifacts" / "sha256" / digest[7:9]
    for path, age in ((drafts / "old", 7200), (drafts / "young", 60), (shard / ("0" * 64 + ".json"), 7200)):
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    report = await heap.collector(replace(HOURLY, artifacts=0)).collect()
    assert report is not None
    assert (report.uploads.count, report.uploads.bytes) == (2, 8)
    assert {path.name for path in drafts.iterdir()} == {"young"}


async def test_a_dry_run_tells_the_same_and_deletes_nothing(heap: Dump) -> None:
    await heap.put("nobody")
    await ended_run(heap, "old", outputs={"x": artifact(await heap.put("of the old run"))})
    await ended_run(heap, "young", int(time.time() * 1000), outputs={"x": artifact(await heap.put("of the young"))})
    await heap.store.insert_run(a_run("keyed", created_at=LONG_AGO), ("key", "digest"))
    collector = heap.collector(replace(HOURLY, runs=HOUR))
    before = await heap.kept(), await heap.garbage.client.dbsize()
    told = (await collector.dry_run()).to_json()
    assert (await heap.kept(), await heap.garbage.client.dbsize()) == before
    assert (await heap.store.run("old")).status == "completed"
    done = await collector.collect()
    assert done is not None
    assert told["dry_run"] is True
    assert told["runs"]["count"] == 1
    assert told["artifacts"]["count"] == 2
    assert json.loads(json.dumps(told)) == told
    assert _comparable(told) == _comparable(done.to_json())


def _comparable(report: dict[str, Any]) -> dict[str, Any]:
    first = sorted(each["digest"] for each in report["artifacts"]["first"])
    artifacts = {**report["artifacts"], "first": first}
    return {key: value for key, value in report.items() if key not in {"dry_run", "seconds"}} | {"artifacts": artifacts}


# In between -----------------------------------------------------------------------------------------------------------


class Meddled(Garbage):
    """The real steps, with something happening right before or after the condemnation."""

    before: Callable[[], Awaitable[object]] | None = None
    after: Callable[[], Awaitable[object]] | None = None

    async def condemn(self, collection: str, digests: Sequence[str]) -> None:
        if self.before:
            await self.before()
        await super().condemn(collection, digests)
        if self.after:
            await self.after()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["commit", "open", "archive", "touch", "announce", "store", "stored"])
async def test_whoever_names_or_puts_meanwhile_saves_it(heap: Dump, when: str, what: str) -> None:
    digest, gone = await heap.put("wanted"), await heap.put("nobody")
    meddled = Meddled(heap.garbage.client)
    right = await running(heap)
    await heap.store.insert_run(a_run("r1", status="running", owner="c1", epoch=1))

    async def commit() -> None:
        assert await heap.garbage.commit(right, [end_of("a", digest)], last=True) == "ok"

    async def open_run() -> None:
        await running(heap, "r2", inputs=compact({"x": artifact(digest)}))

    async def archive() -> None:
        """Named after the first look and gone from Redis before the second."""
        await commit()
        assert await heap.garbage.finish("r1", 1, "completed", "{}") == "ok"
        (ended_at,) = await heap.garbage.run_fields("r1", "ended_at")
        nodes = await heap.garbage.ledger("r1")
        assert await heap.store.end_run("r1", 1, "completed", int(ended_at or 0), nodes=nodes, events=[])
        await heap.garbage.archive("r1", 0)

    async def touch() -> None:
        await heap.put("wanted", age=0)

    async def announce() -> None:
        await heap.garbage.spare(digest)

    async def store() -> None:
        library = await open_library(heap.garbage, heap.store)
        await library.put("default", "poster", words(x=artifact(digest)), Condition())

    async def stored() -> None:
        """Named after the first look; that it was announced is forgotten before the second."""
        await store()
        await heap.garbage.client.delete(keys.PREFIX + "spared")

    deeds = {"commit": commit, "open": open_run, "archive": archive, "touch": touch, "announce": announce}
    setattr(meddled, when, (deeds | {"store": store, "stored": stored})[what])
    report = await heap.collector(garbage=meddled).collect()
    assert report is not None
    assert report.artifacts.count == 1
    assert await heap.kept() == {digest}
    assert gone != digest


async def test_a_collection_that_lost_its_lease_deletes_nothing(heap: Dump, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spindle_control.garbage._LEASE_SECONDS", 0.3)
    digest = await heap.put("nobody")
    meddled = Meddled(heap.garbage.client)

    async def freeze() -> None:
        await heap.garbage.client.delete(keys.PREFIX + "collecting")
        assert await heap.garbage.collect("next", 30, 0)
        await asyncio.sleep(60)

    meddled.after = freeze
    with pytest.raises(Superseded):
        await heap.collector(garbage=meddled).collect()
    assert await heap.kept() == {digest}
    assert await heap.garbage.collecting("next", 30)


async def test_one_at_a_time_and_not_too_often(heap: Dump) -> None:
    assert await heap.garbage.collect("other", 30, 0)
    assert await heap.collector().collect() is None
    await heap.garbage.collected("other", whole=True)
    assert await heap.collector().collect(every=60) is None
    assert await heap.collector().collect() is not None


class Unanswered:
    """A store that loses the answer to a deletion; all else is the real one's."""

    def __init__(self, heap: Dump) -> None:
        self._store = heap.artifacts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def delete(self, digest: str) -> None:
        raise StoreUnavailable(f"no answer about {digest}")


async def test_a_deletion_without_an_answer_keeps_the_digest_closed(heap: Dump) -> None:
    """It might still happen: nobody may put or name these bytes until its minute is over."""
    digest = await heap.put("nobody")
    collector = Collector(heap.garbage, Retention(heap.store), Unanswered(heap), HOURLY)
    report = await collector.collect()
    assert report is not None
    assert report.artifacts.count == 0
    right = await running(heap)
    assert await heap.garbage.commit(right, [end_of("a", digest)], last=True) == "deleting"
    await heap.garbage.client.zincrby(keys.PREFIX + "deleting", -60_001, digest)
    assert await heap.garbage.commit(right, [end_of("a", digest)], last=True) == "ok"


async def test_a_policy_is_read_from_settings() -> None:
    from spindle_control.settings import ControlSettings

    settings = ControlSettings.model_validate({"keep_runs": "30d", "keep_artifacts": "2h"})
    assert Policy.of(settings) == Policy(30 * 86400, 7200, 86400)
    assert Policy.of(ControlSettings()).runs is None
    with pytest.raises(ValueError, match="length of time"):
        ControlSettings.model_validate({"keep_runs": "30 days"})
