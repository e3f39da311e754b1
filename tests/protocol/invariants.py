"""The promises I1 to I6 (design, section 6), checked whenever a command took effect, and once all is at rest.

`Checker` remembers what was once true for ever (ends of runs and nodes, told events) beside the last snapshot, so that
nothing it says depends on what the script writes for itself alone.
"""

import json
from collections.abc import Callable
from typing import Any

from protocol.database import ENDED, Database
from protocol.snapshot import Snapshot, Stream, home
from protocol.world import Command, Violation
from spindle_common import keys

CLOSED = (*ENDED, "skipped")
FENCED_TASKS = {"commit", "give_back", "tick", "cache_wait", "cache_found"}
FENCED_RUNS = {"dispatch", "settle", "finish", "park", "parked", "audit"}
REFUSALS = {"stale", "ended", "repeat", "missing", "exists", "busy", "queued", "running", "paused", "parking", *ENDED}
DONE = {("own", "paused"), ("pause", "paused"), ("park", "parking"), ("queued", "queued")}
FOLLOWS = {
    "": {"queued", "completed", "skipped"},
    "queued": {"started", "retrying", "waiting", "completed", "failed", "skipped"},
    "started": {"started", "retrying", "waiting", "completed", "failed", "skipped"},
    "retrying": {"started", "retrying", "waiting", "completed", "failed", "skipped"},
    "waiting": {"started", "retrying", "waiting", "completed", "failed", "skipped"},
}
STATUS = {"queued": {"queued"}, "started": {"running"}, "retrying": {"queued", "waiting"}, "waiting": {"waiting"}}


class Checker:
    """Looks at the server after every command."""

    def __init__(self, db: Database, *, mixed: bool = False) -> None:
        self._db, self._mixed = db, mixed
        self.clock: Callable[[], int] = lambda: 0
        self._silent: set[tuple[str, str]] = set()
        self.last = Snapshot()
        self.refused = 0
        self._run_ends: dict[str, str] = {}
        self._node_ends: dict[tuple[str, str], Any] = {}
        self._told: dict[str, list[tuple[str, Any]]] = {}
        self._attempts: dict[str, tuple[int, str]] = {}

    def after(self, command: Command, reply: Any, now: Snapshot) -> None:
        """Check what one command did."""
        before, self.last = self.last, now
        self._remember_takes(command, reply)
        self._i1_one_end(now)
        self._i2_one_commit(before, now, command, reply)
        self._i2_refusals_change_nothing(before, now, command, reply)
        self._i3_inputs_are_committed(before, now)
        self._i4_events(now)
        self._i5_places(now)
        self._i5_slots(now)
        self._one_flight(now)
        self._pump(before, now, command)

    def _remember_takes(self, command: Command, reply: Any) -> None:
        if command.op == "take":
            for task, attempt, *_ in reply:
                nonce = command.args[4]
                if (int(attempt), nonce) != self._attempts.get(task):
                    demand(int(attempt) > self._attempts.get(task, (0, ""))[0], "I2: attempts rise", task)
                    self._attempts[task] = (int(attempt), nonce)

    # I1, I2, I3 ----------------------------------------------------------------------------------------------------

    def _i1_one_end(self, now: Snapshot) -> None:
        for run, fields in now.runs.items():
            status = fields["status"]
            ended = self._run_ends.get(run)
            demand(ended in (None, status), "I1: an end is never left", (run, ended, status))
            if status in ENDED:
                self._run_ends[run] = status
        for run, row in self._db.rows.items():
            if row.status in ENDED and run in self._run_ends:
                demand(row.status == self._run_ends[run], "I1: the database tells the same end", run)

    def _i2_one_commit(self, before: Snapshot, now: Snapshot, command: Command, reply: Any) -> None:
        for run, ledger in now.ledgers.items():
            for path, text in ledger.items():
                if text != before.ledgers.get(run, {}).get(path):
                    self._node_changed(run, path, json.loads(text))
        if command.op in FENCED_TASKS and reply == "ok":
            task, attempt, nonce = str(command.args[3]), int(command.args[4]), command.args[5]
            demand(self._attempts[task] == (attempt, nonce), "I2: only the highest attempt may", (command.op, task))
            held = before.tasks.get(task, {})
            demand(held.get("state") == "running", "I2: only of a running task", (task, held.get("state")))
        if command.op in FENCED_RUNS and (reply == "ok" or isinstance(reply, int) or (command.op, reply) in DONE):
            run, epoch = str(command.args[3]), str(command.args[4])
            held = before.runs[run]
            demand(
                epoch in ("", held["epoch"]),
                "I2: only the highest epoch drives",
                (command.op, run, epoch, held["epoch"], reply),
            )

    def _node_changed(self, run: str, path: str, outcome: Any) -> None:
        known = self._node_ends.get((run, path))
        demand(known in (None, outcome), "I2: one committed end for each node", (run, path, known, outcome))
        if outcome["status"] in CLOSED:
            self._node_ends[run, path] = outcome

    def _i2_refusals_change_nothing(self, before: Snapshot, now: Snapshot, command: Command, reply: Any) -> None:
        self.refused += reply == "stale"
        if not isinstance(reply, str) or reply not in REFUSALS or (command.op, reply) in DONE:
            return
        changed = [key for key in before.raw | now.raw if before.raw.get(key) != now.raw.get(key)]
        demand(set(changed) <= {keys.COUNTERS}, "I2: whoever is refused changes nothing", changed)

    def _i3_inputs_are_committed(self, before: Snapshot, now: Snapshot) -> None:
        for task in now.tasks.keys() - before.tasks.keys():
            run = task.partition("/")[0]
            self._attempts.pop(task, None)  # attempts of a run that was parked are counted anew
            for path, outputs in json.loads(now.tasks[task]["body"])["feed"].items():
                outcome = json.loads(now.ledgers[run].get(path, "{}"))
                fits = outcome.get("status") == "completed" and outcome["outputs"] == outputs
                demand(fits, "I3: children see committed inputs", (task, path))

    # I4 ------------------------------------------------------------------------------------------------------------

    def _i4_events(self, now: Snapshot) -> None:
        for run, events in now.events.items():
            told = self._told.setdefault(run, [])
            old = [event for event in events if told and _place(event[0]) <= _place(told[-1][0])]
            demand(not old or old == told[-len(old) :], "I4: told events stay as they are", run)
            for event in events[len(old) :]:
                demand(not told or _place(told[-1][0]) < _place(event[0]), "I4: events ascend", event)
                told.append(event)
                self._i4_order(run, told)
            if run in now.runs and run in now.ledgers:
                self._i4_agrees(run, now.ledgers[run], now.runs[run]["status"])

    def _i4_order(self, run: str, told: list[tuple[str, Any]]) -> None:
        kind, path = told[-1][1]["type"], told[-1][1]["node"]
        before = [event for _, event in told[:-1]]
        demand(not any(event["type"] in _RUN_ENDS for event in before), "I4: nothing comes after the run's end", run)
        demand((kind == "run.queued") or before, "I4: a run begins with run.queued", run)
        if path:
            last = next((event for event in reversed(before) if event["node"] == path), {"type": "", "attempt": ""})
            fits = kind.partition(".")[2] in FOLLOWS.get(last["type"].partition(".")[2], ())
            demand(fits, "I4: each node's events in order", (run, path, last["type"], kind))
            again = last["type"] == kind == "node.started" and last["attempt"] == told[-1][1]["attempt"]
            demand(not again, "I4: nothing is told twice", (run, path, kind))

    def _i4_agrees(self, run: str, ledger: dict[str, str], status: str) -> None:
        last = {event["node"]: event["type"].partition(".")[2] for _, event in self._told[run] if event["node"]}
        for path, text in ledger.items():
            found = json.loads(text)["status"]
            said = STATUS.get(last.get(path, ""), {last.get(path, "")})
            fits = found in said or (status in ENDED and found == "cancelled")
            demand(fits, "I4: ledger and events agree", (run, path, found, said))

    # I5 ------------------------------------------------------------------------------------------------------------

    def _i5_places(self, now: Snapshot) -> None:
        for task, fields in now.tasks.items():
            self._i5_place(now, task, fields)
        for queue, stream in now.streams.items():
            for entry, task in stream.entries.items():
                held = now.tasks.get(task, {})
                fits = (home(held), held.get("entry")) == (queue, entry)
                fits = fits and held.get("state") in ("ready", "running")
                demand(fits or self._mixed, "I5: a stream holds only tasks that are there", (entry, task, held))
        for name in ("leases", "timers", "patience"):
            gone = now.sets.get(name, {}).keys() - now.tasks.keys()
            demand(not gone, f"I5: nothing of ended tasks is left in {name}", gone)

    def _i5_place(self, now: Snapshot, task: str, fields: Any) -> None:
        state, entry = fields["state"], fields["entry"]
        run, stream = now.runs.get(task.partition("/")[0]), now.streams.get(home(fields), Stream())
        demand(run is not None, "I5: a task has a run", task)
        in_stream = stream.entries.get(entry) == task
        if state == "ready":
            fits = now.in_lane(task) + in_stream == 1 and (in_stream or not entry)
        elif state == "running":
            fits = (
                in_stream and entry in stream.pending and task in now.sets.get("leases", {}) and not now.in_lane(task)
            )
        elif state == "waiting":
            fits = task in now.sets.get("timers", {}) and not now.in_lane(task) and not in_stream
        elif state == "held":
            fits = run is not None and run["status"] in ("paused", "parking") and not now.in_lane(task)
        else:
            fits = not now.in_lane(task) and not in_stream and task not in now.sets.get("leases", {})
        demand(fits or self._mixed, "I5: a task is where its state says", (task, fields))

    def _i5_slots(self, now: Snapshot) -> None:
        for form in keys.FORMS:
            slots: dict[str, int] = {}
            for fields in now.workers.values():
                for queue, count in json.loads(fields.get("slots", "{}")).items():
                    slots[queue] = slots.get(queue, 0) + (count if form == fields.get("forms", "") or not form else 0)
            for queue in slots.keys() | now.sets.get("slots", {}).keys():
                fits = now.slots(queue, form) == slots.get(queue, 0)
                demand(fits or (form and self._mixed), "I5: slots are those of live workers", (queue, form))

    def _one_flight(self, now: Snapshot) -> None:
        """Of those that want the same one computes, and whoever waits holds nothing."""
        leaders: dict[str, str] = {}
        for task, fields in now.tasks.items():
            if fields["state"] == "running" and int(fields["lease_until"]) <= self.clock():
                self._silent.add((task, fields["attempt"]))
        for task, flights in now.flights.items():
            fields = now.tasks.get(task, {})
            if fields.get("state") != "running" or (task, fields["attempt"]) in self._silent:
                continue
            for path, name in flights.items():
                if path != "t" and not path.startswith("~") and keys.PREFIX + "cache:" + name not in now.raw:
                    one = leaders.setdefault(name, task)
                    demand(one == task or self._mixed, "flights: one computes what others want", (name, one, task))
        for task, fields in now.tasks.items():
            waits = fields.get("waits", "").split()
            demand(not waits or fields["state"] == "waiting" or self._mixed, "flights: who waits holds nothing", task)
            demand(not waits or task not in now.flights or self._mixed, "flights: who waits leads nothing", task)

    def _pump(self, before: Snapshot, now: Snapshot, command: Command) -> None:
        for queue in {name.partition(":")[0] for name in now.streams}:
            room, frames = 2 * now.slots(queue), now.slots(queue, "frames") > 0
            bound = now.bound(queue, frames=frames)
            grown = bound > before.bound(queue, frames=frames)
            demand(not grown or bound <= room, "pump: at most twice the slots", queue)
            waits = any(now.lanes.get(queue, {}).values())
            fits = not waits or bound >= room
            demand(fits or self._mixed, "pump: no room while tasks wait", (queue, command.op))

    # At rest -------------------------------------------------------------------------------------------------------

    def at_rest(self) -> None:
        """Nothing is under way and nobody is there any more: what may be left, and nothing else."""
        kept = {keys.COUNTERS, keys.SLOTS, keys.SLOTS_FRAMES, keys.DEAD}
        kept |= {keys.queue(name) for name in self.last.streams}
        expiring = {key for key, (_, more) in self.last.raw.items() if key.startswith(keys.drive("")) and more[0] > 0}
        entries = tuple(keys.PREFIX + kind for kind in ("cache:", "cache_counts:"))
        left = {key for key in self.last.raw.keys() - kept - expiring if not key.startswith(entries)}
        if self._mixed:  # a forgotten worker of the version before writes itself down again when it takes
            flights = tuple(keys.PREFIX + kind for kind in ("flight:", "flights:", "waiters:"))
            left = {key for key in left if not key.startswith((keys.worker(""), *flights))}
        demand(not left, "I5: nothing is left", sorted(left))
        for queue, stream in self.last.streams.items():
            demand(not (stream.entries or stream.pending), "I5: streams are empty", queue)
            demand(not stream.consumers, "I5: dead workers' consumers are gone", (queue, stream.consumers))
        for run, row in self._db.rows.items():
            demand(row.status in ENDED, "I1: every accepted run has an end", run)
            told = self._told.get(run, [])
            known = {entry for entry, _ in row.events}
            lost = [entry for entry, _ in told if entry not in known]
            demand(not lost, "I4: the archive has every event", (run, lost))
            demand(told[-1][1]["type"] == f"run.{row.status}", "I4: the last event tells the end", run)


_RUN_ENDS = tuple(f"run.{status}" for status in ENDED)


def _place(entry: str) -> tuple[int, int]:
    ms, _, sequence = entry.partition("-")
    return int(ms), int(sequence)


def demand(holds: object, name: str, found: object) -> None:
    """Raise Violation, naming the invariant, unless it holds."""
    if not holds:
        raise Violation(f"{name}: {found}")
