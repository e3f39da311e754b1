"""The chaos checker finds what is wrong: each promise is broken by hand in an otherwise clean history."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from chaos.checker import Case, violations
from chaos.evidence import Evidence

Json = dict[str, Any]
START = 1_700_000_000_000
HASH = "a" * 64


def event(number: int, kind: str, node: str | None = None, attempt: int = 0) -> Json:
    about = {"node": node, "attempt": attempt} if node else {}
    return {"id": f"{START + number}-0", "type": kind, "run": "r", "time": "", "data": {}} | about


FEED = [
    event(0, "run.queued"),
    event(1, "run.started"),
    event(2, "node.queued", "a"),
    event(3, "node.started", "a", 1),
    event(4, "node.completed", "a", 1),
    event(5, "node.started", "b", 1),
    event(6, "node.retrying", "b", 1),
    event(7, "node.started", "b", 2),
    event(8, "node.completed", "b", 2),
    event(9, "run.completed"),
]
SHAPE = {"name": "s", "status": "completed", "outputs": {"sum": 2}, "needs": {"a": [], "b": ["a"]}}


def clean() -> Case:
    """A run of two nodes, the second tried twice, watched over two connections."""
    seen = [[e["id"], e["type"], e.get("node"), e.get("attempt")] for e in FEED]
    history: list[Json] = [
        {"what": "submit", "at": 0.0, "key": "k", "shape": SHAPE | {"digests": [f"sha256:{HASH}"]}},
        {"what": "submitted", "at": 0.0, "key": "k", "status": 202, "run": "r", "type": None},
        {"what": "submitted", "at": 0.0, "key": "k", "status": 202, "run": "r", "type": None},
        {"what": "feed", "at": 0.0, "watcher": 1, "run": "r", "after": None, "seen": seen[:3], "gap": False},
        {"what": "feed", "at": 0.0, "watcher": 1, "run": "r", "after": seen[2][0], "seen": seen[3:], "gap": False},
    ]
    record = {
        "status": "completed",
        "created_at": "2023-11-14T22:13:20Z",
        "ended_at": "2023-11-14T22:13:21Z",
        "outputs": {"sum": 2},
        "nodes": {"a": {"status": "completed"}, "b": {"status": "completed"}},
    }
    begun = [{"what": "begin", "at": START / 1000, "run": "r", "node": "b", "attempt": n} for n in (1, 2)]
    evidence = Evidence({"r": record}, {"r": [FEED, FEED]}, {f"sha256:{HASH}": HASH}, begun, {"u": 200})
    return copy.deepcopy(Case(history, evidence))


def feed_of(case: Case) -> list[Json]:
    """One feed, shared by all pages."""
    feed = case.evidence.pages["r"][0]
    case.evidence.pages["r"] = [feed, feed]
    case.history = [line for line in case.history if line["what"] != "feed"]
    return feed


def lost(case: Case) -> None:
    del case.evidence.records["r"], case.evidence.pages["r"]


def hangs(case: Case) -> None:
    case.evidence.records["r"]["status"] = "running"


def ends_twice(case: Case) -> None:
    feed_of(case).append(event(10, "run.failed"))


def fails(case: Case) -> None:
    case.evidence.records["r"]["status"] = "failed"
    feed_of(case)[-1]["type"] = "run.failed"


def wrong_outputs(case: Case) -> None:
    case.evidence.records["r"]["outputs"] = {"sum": 3}


def two_runs(case: Case) -> None:
    case.history = [*case.history, {"what": "submitted", "at": 0.0, "key": "k", "status": 202, "run": "r2"}]
    case.evidence.records["r2"] = case.evidence.records["r"]


def cancel_lost(case: Case) -> None:
    case.history = [*case.history, {"what": "cancelled", "run": "r", "status": 200, "run_status": "cancelled"}]


def commits_twice(case: Case) -> None:
    feed_of(case).insert(9, event(8, "node.completed", "b", 2) | {"id": f"{START + 8}-1"})


def zombie_commits(case: Case) -> None:
    feed_of(case)[8]["attempt"] = 1


def starts_again(case: Case) -> None:
    feed_of(case).insert(9, event(8, "node.started", "b", 3) | {"id": f"{START + 8}-1"})


def record_differs(case: Case) -> None:
    case.evidence.records["r"]["nodes"]["b"]["status"] = "failed"


def runs_again(case: Case) -> None:
    case.evidence.executions.append(
        {"what": "begin", "at": START / 1000 + 1, "run": "r", "node": "b", "attempt": 3, "pid": 1}
    )


def begins_twice(case: Case) -> None:
    case.evidence.executions.append(case.evidence.executions[-1])


def child_is_early(case: Case) -> None:
    feed = feed_of(case)
    feed[4], feed[5] = event(4, "node.started", "b", 1), event(5, "node.completed", "a", 1)


def out_of_order(case: Case) -> None:
    feed_of(case)[3]["id"] = f"{START}-0"


def controls_differ(case: Case) -> None:
    case.evidence.pages["r"] = [FEED, FEED[:-1]]


def event_missed(case: Case) -> None:
    del case.history[3]["seen"][1]


def end_missed(case: Case) -> None:
    case.history[4]["seen"].pop()


def needless_gap(case: Case) -> None:
    case.history[3]["gap"] = True


def unreadable(case: Case) -> None:
    case.evidence.blobs[f"sha256:{HASH}"] = None


def torn(case: Case) -> None:
    case.evidence.blobs[f"sha256:{HASH}"] = "b" * 64


def never_written(case: Case) -> None:
    case.evidence.blobs.clear()


def leak(case: Case) -> None:
    case.evidence.leftovers.append("spindle:leases holds 1")


def red(case: Case) -> None:
    case.evidence.health["u"] = 503


def green_while_nothing_moves(case: Case) -> None:
    feed_of(case)[-1]["id"] = f"{START + 60_000}-0"
    case.evidence.records["r"]["ended_at"] = "2023-11-14T22:14:20Z"
    asked = [{"what": "health", "at": START / 1000 + second, "url": "u", "status": 200} for second in range(62)]
    case.history = [*case.history, *asked]


BROKEN: dict[Callable[[Case], None], str] = {
    lost: "I1 lost",
    hangs: "I1 hangs",
    ends_twice: "I1 ends",
    fails: "I1 outcome",
    wrong_outputs: "I3 outputs",
    two_runs: "idempotency",
    cancel_lost: "I1 cancel",
    commits_twice: "I2 twice",
    zombie_commits: "I2 fence",
    starts_again: "I2 after",
    record_differs: "I2 record",
    runs_again: "I2 again",
    begins_twice: "I2 doubled",
    child_is_early: "I3 early",
    out_of_order: "I4 order",
    controls_differ: "I4 differ",
    event_missed: "I4 silent gap",
    end_missed: "I4 end",
    needless_gap: "I4 gap",
    unreadable: "bytes",
    torn: "bytes",
    never_written: "bytes",
    leak: "I5 leak",
    red: "I6 red",
    green_while_nothing_moves: "I6 green",
}


def test_a_clean_history_is_clean() -> None:
    assert violations(clean()) == []


@pytest.mark.parametrize(("break_it", "invariant"), BROKEN.items(), ids=[each.__name__ for each in BROKEN])
def test_it_finds_what_is_wrong(break_it: Callable[[Case], None], invariant: str) -> None:
    case = clean()
    break_it(case)
    assert invariant in {violation.invariant for violation in violations(case)}


def test_red_health_excuses_a_standstill() -> None:
    case = clean()
    green_while_nothing_moves(case)
    case.history = [line | {"status": 503} if line["what"] == "health" else line for line in case.history]
    assert violations(case) == []


def test_a_machine_that_stood_still_itself_is_no_standstill() -> None:
    case = clean()
    green_while_nothing_moves(case)
    seldom = list(case.of("health"))[::20]
    case.history = [line for line in case.history if line["what"] != "health" or line in seldom]
    assert violations(case) == []


def test_what_was_in_flight_when_redis_was_emptied_may_be_lost() -> None:
    case = clean()
    record = case.evidence.records["r"]
    record |= {"status": "failed", "problem": {"type": "urn:spindle:problem:state-lost"}, "nodes": {}}
    case.evidence.pages["r"] = [[], []]
    assert violations(case)
    for began, ended, excused in (
        (0.5, 0.5, True),
        (-30, 0.5, True),
        (-30, 30, True),
        (-30, -20, False),
        (20, 30, False),
    ):
        flush = [
            {"what": what, "fault": "flush", "at": START / 1000 + at}
            for what, at in (("break", began), ("mended", ended))
        ]
        assert (violations(Case([*case.history, *flush], case.evidence)) == []) is excused
