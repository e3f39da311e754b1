"""Random workflows, driven through crashes, against an oracle that reads nothing but the document.

`SPINDLE_ORACLE_SEEDS=2000` runs as many seeds instead of the usual few; `SPINDLE_ORACLE_SEED=17` replays one.
"""

import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from oracle.drawing import Case, draw
from oracle.driving import ENDS, Rig, Seen, artifacts_in, spilling
from oracle.meaning import Meaning, meaning, needs_of
from oracle.nodes import trips_of
from spindle_common.queue import Queue
from spindle_control.store import Store
from support.redis_server import RedisServer

SEEDS = int(os.environ.get("SPINDLE_ORACLE_SEEDS", "60"))
ONE = os.environ.get("SPINDLE_ORACLE_SEED")
_AT_ONCE = 20


@pytest.fixture
async def rig(tmp_path: Path, queue: Queue, quiet_server: RedisServer) -> AsyncIterator[Rig]:
    store = await Store.open(f"sqlite+aiosqlite:///{tmp_path / 'spindle.db'}")
    yield Rig(quiet_server.url, queue, store, artifacts_in(tmp_path / "artifacts"))
    await store.close()


def seeds(first: int) -> range:
    return range(int(ONE), int(ONE) + 1) if ONE else range(first, min(first + _AT_ONCE, SEEDS))


def type_at(case: Case, path: str) -> str:
    """The node type at a path of the ledger; empty for an item or an iteration."""
    if path.endswith("]"):
        return ""
    level = case.document
    *outer, last = path.split(".")
    for part in outer:
        node = level["nodes"][part.partition("[")[0]]
        level = case.library[node["workflow_ref"]] if "workflow_ref" in node else node["body"]
    return str(level["nodes"][last]["type"])


def chosen_to_wait(case: Case, rng: random.Random) -> tuple[str | None, set[str]]:
    """A node to hold back, and the paths that must end all the same."""
    candidates = sorted(
        path for path in case.means.ends if not type_at(case, path).startswith(("flow.m", "flow.l", "flow.c"))
    )
    candidates = [path for path in candidates if type_at(case, path)]
    shaken = any(trips_of(type_at(case, path), path) for path in candidates)  # it waits for its task to have room
    if rng.random() < 0.4 or not candidates or case.document["on_failure"] == "stop" or shaken:
        return None, set()
    held = rng.choice(candidates)
    found = meaning(case.document, case.inputs, case.library, held)
    light = {path for path in found.ends if type_at(case, path).startswith("light.")}  # run where they are needed
    return held, found.ends.keys() - light - found.perhaps - case.means.perhaps


def check_ends(case: Case, seen: Seen) -> None:
    """Everything ended as it must."""
    means, nodes = case.means, seen.row.nodes or {}
    assert (seen.row.status, seen.row.outputs or {}) == (means.status, means.outputs)
    ended = {path: o for path, o in nodes.items() if o["status"] in ("completed", "failed", "skipped")}
    assert ended.keys() <= means.ends.keys()
    assert means.ends.keys() - means.perhaps <= ended.keys()
    for path, outcome in ended.items():
        end = means.ends[path]
        assert (path, outcome["status"], outcome.get("reason")) == (path, end.status, end.reason)
        if end.status == "completed":
            outputs = {
                name: value for name, value in outcome["outputs"].items() if name != "reached" or type_at(case, path)
            }
            assert (path, outputs) == (path, end.outputs)
    if means.status == "failed":
        at = (seen.row.problem or {})["instance"].removeprefix("/nodes/")
        assert means.ends[at].status == "failed"


def check_order(case: Case, seen: Seen) -> None:
    """Nothing ended twice, or began before all that it needs had ended."""
    began: dict[str, int] = {}
    ended: dict[str, int] = {}
    for at, event in enumerate(seen.events):
        if event["type"] == "node.started":
            began.setdefault(event["node"], at)
        elif event["type"] in ENDS:
            assert event["node"] not in ended, f"{event['node']} ended twice"
            ended[event["node"]] = at
    for path in began.keys() | ended.keys():
        check_begin(case, path, min(began.get(path, 1 << 30), ended.get(path, 1 << 30)), began, ended)
    whole = [at for at, event in enumerate(seen.events) if event["type"].startswith("run.")]
    assert whole[-1] == len(seen.events) - 1


def check_begin(case: Case, path: str, at: int, began: dict[str, int], ended: dict[str, int]) -> None:
    prefix, _, id_ = path.rpartition(".")
    if prefix:
        assert began[prefix.rpartition("[")[0] if prefix.endswith("]") else prefix] < at
        assert ended.get(prefix, 1 << 30) > ended.get(path, at)
    if id_.endswith("]"):
        return
    level = case.document
    for part in prefix.split(".") if prefix else ():
        node = level["nodes"][part.partition("[")[0]]
        level = case.library[node["workflow_ref"]] if "workflow_ref" in node else node["body"]
    for need in needs_of(level["nodes"][id_]):
        other = f"{prefix}.{need}" if prefix else need
        assert ended[other] < at, f"{path} began before {other} had ended"


async def check_seed(rig: Rig, seed: int) -> Counter[str]:
    rng = random.Random(seed)
    case = draw(rng)
    held, unheld = chosen_to_wait(case, rng)
    seen = await rig.drive(case, rng, held, unheld)
    check_ends(case, seen)
    check_order(case, seen)
    assert not seen.twice, f"ran again: {seen.twice}"
    assert not seen.lives.frames, f"frames left open: {seen.lives.frames}"
    found = [*(outcome.get("attempt", 0) > 1 for outcome in (seen.row.nodes or {}).values())]
    return Counter(nodes=len(found), again=sum(found), died=seen.lives.died, parked=seen.lives.parked)


@pytest.mark.parametrize("first", range(0, 1 if ONE else SEEDS, _AT_ONCE))
async def test_workflows_come_to_what_they_mean(rig: Rig, first: int) -> None:
    for seed in seeds(first):
        try:
            await check_seed(rig, seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error or type(error).__name__}") from error


LARGE: dict[str, Case] = {}


def large(name: str, nodes: dict[str, Any], outputs: dict[str, Any]) -> None:
    """Note a workflow that reads three numbers, which spill."""
    first = {"three": {"type": "cpu.list@1", "inputs": {"in0": 7}}}
    document = {"schema": "spindle.workflow/v1", "inputs": {}, "nodes": first | nodes, "outputs": outputs}
    LARGE[name] = Case(document | {"on_failure": "continue"}, {}, {}, meaning(document, {}, {}))


THREE, NUMBERS = {"$from": "three.items"}, {"type": "array", "items": {"type": "integer"}}
large("as they are", {}, {"all": THREE})
large("in an output's expression", {}, {"count": {"$expr": "size(three.items)"}})
large("deep in an output", {}, {"deep": [{"it": THREE}], "here": {"$present": [THREE, THREE]}})
BODY = {
    "inputs": {"item": {"type": "integer"}, "r": NUMBERS},
    "nodes": {"n": {"type": "cpu.sum@1", "when": "size(inputs.r) == 3", "inputs": {"in0": {"$from": "inputs.r"}}}},
    "outputs": {"o": {"$from": "n.value"}},
}
EACH = {"type": "flow.map@1", "over": [1, 2], "with": {"r": THREE}, "body": BODY}
large("in a condition inside a body", {"each": EACH}, {"sums": {"$from": "each.o"}})


@pytest.mark.parametrize("case", LARGE.values(), ids=LARGE)
async def test_what_is_large_is_seen_whole(rig: Rig, case: Case) -> None:
    assert "completed" in {end.status for end in case.means.ends.values()}
    with spilling(4):
        for seed in range(4):
            seen = await rig.drive(case, random.Random(seed))
            check_ends(case, seen)


def test_the_oracle_knows_what_is_never_reached() -> None:
    inputs = {"a": {"$from": "slow.value"}}
    body = {"inputs": {"item": {"type": "integer"}}, "nodes": {"n": {"type": "cpu.sum@1"}}, "outputs": {}}
    nodes = {
        "slow": {"type": "cpu.sum@1"},
        "late": {"type": "cpu.sum@1", "inputs": inputs},
        "free": {"type": "flow.map@1", "over": [1, 2], "concurrency": 1, "body": body},
    }
    found: Meaning = meaning({"nodes": nodes}, {}, {}, "slow")
    assert found.ends.keys() == {"free", "free[0]", "free[1]", "free[0].n", "free[1].n"}
    found = meaning({"nodes": nodes}, {}, {}, "free[0].n")
    assert found.ends.keys() == {"slow", "late"}
