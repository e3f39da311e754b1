"""Nodes of one task that fail beside each other: each is tried as often as it says, no more."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from spindle_common.queue import Queue
from spindle_worker.node import Context, OpenInputs, Outputs, node
from support.desk import Desk

Json = dict[str, Any]
TRIES: Counter[str] = Counter()


class FlakyInputs(OpenInputs):
    fails: int


class FlakyOutputs(Outputs):
    tries: int


@node("t.flaky@1", queue="async", cacheable=False)
async def flaky(inputs: FlakyInputs, ctx: Context) -> FlakyOutputs:
    TRIES[ctx.node] += 1
    if TRIES[ctx.node] <= inputs.fails:
        raise RuntimeError("as asked")
    return FlakyOutputs(tries=TRIES[ctx.node])


def flaking(fails: int, attempts: int) -> Json:
    return {"type": "t.flaky@1", "inputs": {"fails": fails}, "max_attempts": attempts, "backoff": 0.0}


@pytest.fixture
async def desk(queue: Queue, tmp_path: Path) -> AsyncIterator[Desk]:
    TRIES.clear()
    made = Desk(queue.client, tmp_path, [flaky.spec])  # type: ignore[attr-defined]
    yield made
    await made.close()


async def test_each_of_several_that_fail_at_once_spends_its_own_budget(desk: Desk) -> None:
    await desk.open("r")
    nodes = {"a": flaking(9, 2), "b": flaking(9, 2), "c": flaking(9, 3), "d": flaking(1, 2), "e": flaking(2, 2)}
    await desk.dispatch("r", nodes)
    ends = [await desk.work() for _ in range(3)]
    assert ends == [["retried"], ["retried"], ["done"]]
    assert dict(TRIES) == {"a": 2, "b": 2, "c": 3, "d": 2, "e": 2}
    ledger = await desk.queue.ledger("r")
    assert {path: outcome["status"] for path, outcome in ledger.items()} == {
        "a": "failed",
        "b": "failed",
        "c": "failed",
        "d": "completed",
        "e": "failed",
    }
    retrying = [node_ for kind, node_, _ in await desk.events("r") if kind == "node.retrying"]
    assert sorted(retrying) == ["a", "b", "c", "c", "d", "e"]
