"""The checker: the promises I1 to I6 as functions over history and evidence, each giving the violations that it finds.

Nothing here knows how Spindle works inside; `Case` sorts what was seen, the invariants judge it. A run that was in
flight when Redis was emptied may end as `state-lost`, and its events may be gone: then, and only then.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise, zip_longest
from typing import Any, NamedTuple

from chaos.evidence import OPEN, Evidence
from spindle_common.events import cursor

Json = dict[str, Any]
NODE_ENDS = frozenset({"node.completed", "node.failed", "node.skipped"})
RUN_ENDS = frozenset({"run.completed", "run.failed", "run.cancelled"})
_SLACK = 1.0


class Violation(NamedTuple):
    """A promise that was broken, where, and what was seen."""

    invariant: str
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.where}: {self.text}"


@dataclass
class Case:
    """History and evidence, sorted."""

    history: Sequence[Json]
    evidence: Evidence

    def of(self, what: str) -> Iterator[Json]:
        """Lines of the history of one kind."""
        return (line for line in self.history if line["what"] == what)

    @cached_property
    def accepted(self) -> dict[str, str]:
        """Runs that were promised (202), with the key of their request."""
        return {line["run"]: line["key"] for line in self.of("submitted") if line["status"] == 202}

    @cached_property
    def shapes(self) -> dict[str, Json]:
        """What each accepted run must give."""
        shapes = {line["key"]: line["shape"] for line in self.of("submit")}
        return {run: shapes[key] for run, key in self.accepted.items()}

    @cached_property
    def cancelled(self) -> set[str]:
        """Runs that a client asked to cancel."""
        return {line["run"] for line in self.of("cancelled")}

    @cached_property
    def flushes(self) -> list[tuple[float, float]]:
        """Between which moments Redis was emptied, each time: a machine that stands still may lie between them."""
        began, ended = (
            [line["at"] for line in self.of(what) if line["fault"] == "flush"] for what in ("break", "mended")
        )
        return list(zip_longest(began, ended, fillvalue=float("inf")))

    @cached_property
    def emptied(self) -> set[str]:
        """Runs that were in flight when Redis was emptied."""
        spans = {run: _span(record) for run, record in self.evidence.records.items()}
        return {
            run
            for run, (began, ended) in spans.items()
            if any(began <= last and first <= ended for first, last in self.flushes)
        }

    @cached_property
    def feeds(self) -> dict[str, list[Json]]:
        """Each run's archived events, as the first control gives them."""
        return {run: pages[0] for run, pages in self.evidence.pages.items() if pages}


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _span(record: Json) -> tuple[float, float]:
    ended = _seconds(record["ended_at"]) + _SLACK if "ended_at" in record else float("inf")
    return _seconds(record["created_at"]) - _SLACK, ended


Check = Callable[[Case], Iterator[Violation]]
INVARIANTS: list[Check] = []


def invariant(check: Check) -> Check:
    """Register an invariant."""
    INVARIANTS.append(check)
    return check


def violations(case: Case) -> list[Violation]:
    """All that is wrong."""
    return [violation for check in INVARIANTS for violation in check(case)]


# I1: one terminal state per accepted run ----------------------------------------------------------------------------


@invariant
def accepted_runs_end(case: Case) -> Iterator[Violation]:
    """I1: what was accepted is known, and ends."""
    for run in case.accepted:
        record = case.evidence.records.get(run)
        if record is None:
            yield Violation("I1 lost", run, "was accepted and is not known")
    for run, record in case.evidence.records.items():
        if record["status"] in OPEN:
            yield Violation("I1 hangs", run, f"is still {record['status']}: {_nodes(record)}")


@invariant
def ends_once(case: Case) -> Iterator[Violation]:
    """I1: one end, the last event, which is also the record's."""
    for run, feed in case.feeds.items():
        ends = [event["type"] for event in feed if event["type"] in RUN_ENDS]
        status = case.evidence.records[run]["status"]
        if run in case.emptied or status in OPEN:
            continue
        if ends != [f"run.{status}"] or feed[-1]["type"] != ends[0]:
            yield Violation("I1 ends", run, f"is {status} with the ends {ends}, last {feed[-1:]}")


@invariant
def ends_as_it_must(case: Case) -> Iterator[Violation]:
    """I1, I3: completed with the right outputs or failed for the right reason, unless cancelled or lost."""
    for run, shape in case.shapes.items():
        record = case.evidence.records.get(run, {"status": "queued"})
        if record["status"] in OPEN or (record["status"] == "cancelled" and run in case.cancelled):
            continue
        code = str((record.get("problem") or {}).get("type", "")).rpartition(":")[2]
        if code == "state-lost" and run in case.emptied:
            continue
        if record["status"] != shape["status"]:
            yield Violation("I1 outcome", run, f"{shape['name']} is {record['status']} ({record.get('problem')})")
        elif shape["outputs"] is not None and record["outputs"] != shape["outputs"]:
            yield Violation("I3 outputs", run, f"gave {record['outputs']} instead of {shape['outputs']}")


@invariant
def same_key_same_run(case: Case) -> Iterator[Violation]:
    """The same Idempotency-Key gives the same run."""
    runs: dict[str, set[str]] = defaultdict(set)
    for line in case.of("submitted"):
        if line["status"] == 202:
            runs[line["key"]].add(line["run"])
        elif line["status"] is not None:
            yield Violation("answer", line["key"], f"was answered {line['status']} {line['type']}")
    for key, found in runs.items():
        if len(found) > 1:
            yield Violation("idempotency", key, f"gave {sorted(found)}")


@invariant
def one_winner(case: Case) -> Iterator[Violation]:
    """A cancel's answer tells how the run ended, and stays true."""
    for line in case.of("cancelled"):
        if line["status"] != 200 or line["run"] in case.emptied:
            continue
        if line["run_status"] in OPEN:
            yield Violation("I1 cancel", line["run"], f"was answered {line['run_status']}")
        elif line["run_status"] != case.evidence.records[line["run"]]["status"]:
            ended = case.evidence.records[line["run"]]["status"]
            yield Violation("I1 cancel", line["run"], f"was answered {line['run_status']}, ended {ended}")


# I2, I3: commits ----------------------------------------------------------------------------------------------------


@invariant
def one_commit(case: Case) -> Iterator[Violation]:
    """I2: one end per node, from the highest attempt that was started."""
    for run, feed in case.feeds.items():
        started: dict[str, list[int]] = defaultdict(list)
        ended: dict[str, Json] = {}
        for event in feed if run not in case.emptied else ():
            node = event.get("node")
            if node is None:
                continue
            if event["type"] in NODE_ENDS:
                if node in ended:
                    yield Violation("I2 twice", f"{run} {node}", f"{ended[node]} and {event}")
                ended[node] = event
                attempt = event.get("attempt", 0)
                if event["type"] == "node.completed" and attempt != max(started[node], default=0):
                    yield Violation("I2 fence", f"{run} {node}", f"attempt {attempt} won over {started[node]}")
            elif node in ended:
                yield Violation("I2 after", f"{run} {node}", f"{event} came after {ended[node]}")
            elif event["type"] == "node.started":
                started[node].append(event["attempt"])
                if sorted(set(started[node])) != started[node]:
                    yield Violation("I2 order", f"{run} {node}", f"attempts {started[node]}")


@invariant
def record_is_what_was_committed(case: Case) -> Iterator[Violation]:
    """I2: a run's record shows each node as its one event did."""
    for run, feed in case.feeds.items():
        if run in case.emptied:
            continue
        ends = {event["node"]: event for event in feed if event["type"] in NODE_ENDS}
        for node, shown in case.evidence.records[run]["nodes"].items():
            wanted = ends[node]["type"].partition(".")[2] if node in ends else None
            if wanted != shown["status"] and not (
                wanted is None and shown["status"] in ("cancelled", *OPEN, "pending")
            ):
                yield Violation("I2 record", f"{run} {node}", f"is {shown['status']}, its event says {wanted}")


@invariant
def nothing_runs_again(case: Case) -> Iterator[Violation]:
    """I2: after a node's commit no later attempt at it begins; told by the nodes themselves."""
    committed = {
        (run, event["node"]): (event.get("attempt", 0), cursor(event["id"])[0] / 1000)
        for run, feed in case.feeds.items()
        for event in feed
        if event["type"] == "node.completed"
    }
    for line in case.evidence.executions:
        attempt, when = committed.get((line["run"], line["node"]), (None, 0.0))
        if line["what"] == "begin" and attempt is not None and line["attempt"] > attempt:
            late = line["at"] - when
            yield Violation("I2 again", f"{line['run']} {line['node']}", f"{line} began {late:.1f} s after its commit")


@invariant
def each_attempt_begins_once(case: Case) -> Iterator[Violation]:
    """I2: no attempt at a node is run twice, whatever message came twice."""
    begun = Counter((e["run"], e["node"], e["attempt"]) for e in case.evidence.executions if e["what"] == "begin")
    for (run, node, attempt), times in begun.items():
        if times > 1:
            yield Violation("I2 doubled", f"{run} {node}", f"attempt {attempt} began {times} times")


@invariant
def children_wait(case: Case) -> Iterator[Violation]:
    """I3: a node starts only after the ends of all that it needs."""
    for run, shape in case.shapes.items():
        ended: set[str] = set()
        for event in case.feeds.get(run, ()) if run not in case.emptied else ():
            node = event.get("node")
            if event["type"] in NODE_ENDS:
                ended.add(str(node))
            elif event["type"] == "node.started" and not ended.issuperset(shape["needs"][node]):
                missing = sorted(set(shape["needs"][node]) - ended)
                yield Violation("I3 early", f"{run} {node}", f"started before {missing} ended")


# I4: events ---------------------------------------------------------------------------------------------------------


@invariant
def pages_agree(case: Case) -> Iterator[Violation]:
    """I4: ids strictly ascend, and every control gives the same events."""
    for run, pages in case.evidence.pages.items():
        for page in pages:
            ids = [cursor(event["id"]) for event in page]
            if any(later <= earlier for earlier, later in pairwise(ids)):
                yield Violation("I4 order", run, f"{[event['id'] for event in page]}")
        if any(page != pages[0] for page in pages):
            yield Violation("I4 differ", run, f"{[len(page) for page in pages]} events")


@invariant
def feeds_are_whole(case: Case) -> Iterator[Violation]:
    """I4: each connection saw exactly what follows its cursor, as far as it looked; a gap was told."""
    for line in case.of("feed"):
        if line["gap"] and line["run"] not in case.emptied:
            yield Violation("I4 gap", line["run"], "a gap was told though nothing was lost")
        if line["run"] in case.emptied or line["run"] not in case.feeds:
            continue
        feed = [[e["id"], e["type"], e.get("node"), e.get("attempt")] for e in case.feeds[line["run"]]]
        after = cursor(line["after"] or "0-0")
        wanted = [event for event in feed if cursor(event[0]) > after][: len(line["seen"])]
        if wanted != line["seen"]:
            yield Violation("I4 silent gap", line["run"], f"after {line['after']} saw {line['seen']}, was {wanted}")


@invariant
def watchers_see_the_end(case: Case) -> Iterator[Violation]:
    """I4: a watcher's last connection saw the run's end, unless its events were lost: then it was told of the gap."""
    last = {line["watcher"]: line for line in case.of("feed")}
    for line in last.values():
        whole = bool(line["seen"]) and line["seen"][-1][1] in RUN_ENDS
        if not whole and line["run"] not in case.emptied:
            yield Violation("I4 end", line["run"], f"watcher {line['watcher']} came to no end: {line}")


@invariant
def watchers_end(case: Case) -> Iterator[Violation]:
    """I4: whoever watches comes to the end."""
    for line in case.of("stuck-client"):
        yield Violation("I4 hangs", "client", line["task"])


# I5, bytes, I6 ------------------------------------------------------------------------------------------------------


@invariant
def no_leaks(case: Case) -> Iterator[Violation]:
    """I5: at rest Redis holds nothing of what ended."""
    for text in case.evidence.leftovers:
        yield Violation("I5 leak", "redis", text)


@invariant
def bytes_are_there(case: Case) -> Iterator[Violation]:
    """A completed node's artifact is readable, and is what its name says."""
    for digest, found in case.evidence.blobs.items():
        if f"sha256:{found}" != digest:
            yield Violation("bytes", digest, "unreadable" if found is None else f"holds {found}")
    for run, shape in case.shapes.items():
        record = case.evidence.records.get(run)
        if record and record["status"] == "completed":
            for digest in set(shape["digests"]) - case.evidence.blobs.keys():
                yield Violation("bytes", run, f"completed without {digest}")


@invariant
def healthy_at_the_end(case: Case) -> Iterator[Violation]:
    """I6: green once everything is mended."""
    for url, status in case.evidence.health.items():
        if status != 200:
            yield Violation("I6 red", url, f"/health answers {status} at the end")


@invariant
def red_while_nothing_moves(case: Case) -> Iterator[Violation]:
    """I6: health was red, somewhere, in every long time in which runs were open and nothing happened."""
    asked = [(line["at"], line["status"]) for line in case.of("health")]
    for began, ended in standstills(case, seconds=15.0):
        answers = [(at, status) for at, status in asked if began + 5 <= at <= ended + 1]
        if _starved([began + 5, *(at for at, _ in answers), ended]):
            continue
        if all(status == 200 for _, status in answers):
            yield Violation("I6 green", f"{ended - began:.1f} s", f"no progress from {began:.1f} to {ended:.1f}")


def _starved(moments: list[float]) -> bool:
    """Whether not even the question came through in its time (it is asked each second): the machine stood still."""
    return any(later - earlier > 7 for earlier, later in pairwise(moments))


def standstills(case: Case, seconds: float) -> Iterator[tuple[float, float]]:
    """Times in which runs were open and no event was written, longer than so many seconds."""
    moments = sorted(cursor(event["id"])[0] / 1000 for feed in case.feeds.values() for event in feed)
    spans = [_span(record) for record in case.evidence.records.values()]
    for earlier, later in pairwise(moments):
        middle = (earlier + later) / 2
        if later - earlier > seconds and any(began <= middle <= ended for began, ended in spans):
            yield earlier, later


def _nodes(record: Json) -> str:
    return ", ".join(f"{name} {node['status']}" for name, node in record.get("nodes", {}).items())
