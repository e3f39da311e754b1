"""The task protocol: typed Python over the atomic steps in `spindle.lua` (design, section 5).

    driver --dispatch--> task hash, lane:{queue} --pump--> queue:{queue} --take--> worker
    worker --beat--> lease;  --commit--> ledger, events, drive:{owner} --read--> driver

Every step may be repeated after a lost reply without doing anything twice, so the connection may retry. Answers are
`"ok"`, or say why not: `"stale"` (another attempt, another epoch), `"ended"` (the run), `"missing"`, `"repeat"`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

import redis.asyncio as aioredis
from redis.exceptions import NoScriptError

from spindle_common import keys
from spindle_common.connection import away
from spindle_common.problems import SpindleError, Unavailable
from spindle_common.scripts import scripts_in

SCRIPT = (resources.files("spindle_common") / "spindle.lua").read_text()
_NOTHING: Mapping[str, str] = {}
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)


Fields = Mapping[str, str | int | float]
"""What a run's hash holds: tenant, weight, priority, workflow, inputs, plan, traceparent, seeds."""
Problem = Mapping[str, Any]


class RedisRefused(SpindleError):
    """The Redis at hand could lose work, and is refused at start."""

    code, title, status = "redis-refused", "This Redis would lose work", 500


class Taken(NamedTuple):
    """A task that this worker may now run; `attempt` is its fence."""

    task: str
    attempt: int
    body: str
    queue: str
    waited_ms: int

    @property
    def run(self) -> str:
        """Run to which it belongs."""
        return self.task.partition("/")[0]


class NodeEnd(NamedTuple):
    """How a node ended, its outcome and its event's data as JSON text; an empty outcome says that it started."""

    path: str
    outcome: str
    data: str


class Offer(NamedTuple):
    """A task to dispatch; `patience`: seconds that it may wait for a worker, 0 for any time.

    `form`: what its worker must understand (`keys.FORMS`).
    """

    name: str
    queue: str
    body: str
    paths: Sequence[str]
    starts: Sequence[str]
    patience: float = 0.0
    form: str = ""


class QueueState(NamedTuple):
    """What waits for workers: tasks in lanes, in the stream, taken from it, and seconds that the oldest has waited.

    `last` changes with every take.
    """

    ready: int
    in_stream: int
    taken: int
    oldest: float
    last: str


class Swept(NamedTuple):
    """What a sweep saw to, and the controls whose lease has lapsed."""

    timers: int
    leases: int
    workers: int
    controls: list[str]


class Left(NamedTuple):
    """What Redis has of a run; `stays`: it has not been told to forget it."""

    run: str
    status: str | None
    owner: str
    epoch: int
    stays: bool


class DeadLetter(NamedTuple):
    """A task that used up its budget."""

    id: str
    fields: dict[str, str]


class Place(NamedTuple):
    """Where a task is: `position` in its tenant's lane from 1 on (0: handed to the queue's workers, or not waiting),
    how many tasks of the tenant wait there, the queue's slots, and when it is tried again (milliseconds; 0: no timer).
    """

    state: str
    queue: str
    attempt: int
    worker: str
    history: str
    position: int
    waiting: int
    slots: int
    due: int


Steps = Sequence[NodeEnd]


@dataclass(frozen=True)
class Right:
    """A worker's right to a task."""

    task: str
    attempt: int
    nonce: str

    @property
    def args(self) -> tuple[str, int, str]:
        """As the scripts want it."""
        return self.task, self.attempt, self.nonce


def compact(value: object) -> str:
    """JSON text as the scripts expect it: no spaces, so that an outcome begins with {"status":"."""
    return _COMPACT.encode(value)


def outcome_text(status: str, **fields: object) -> str:
    """Build an outcome; the status comes first, as the scripts expect."""
    return compact({"status": status} | {key: value for key, value in fields.items() if value is not None})


def outcome_json(outcome: Mapping[str, Any]) -> str:
    """Write an outcome as the ledger keeps it, the status first."""
    return outcome_text(**outcome)


def _run_args(fields: "Fields") -> list[str | int | float]:
    names = ("tenant", "weight", "priority", "workflow", "inputs", "plan", "traceparent")
    return [*(fields[name] for name in names), fields.get("seeds", "")]


class Queue:
    """The atomic steps, each one round trip."""

    def __init__(self, client: "aioredis.Redis", script: str = SCRIPT) -> None:
        self.client, self._scripts = client, scripts_in(script)

    async def _step(self, *args: str | float) -> Any:
        return await away(self._evaluate(args))

    async def _evaluate(self, args: Sequence[str | float]) -> Any:
        script = self._scripts.of(str(args[0]))
        try:
            return await self.client.evalsha(script.sha, 0, *args)
        except NoScriptError:
            return await self.client.eval(script.text, 0, *args)

    async def check_server(self) -> None:
        """Refuse, loudly, a Redis that may drop keys. Raises RedisRefused, Unavailable."""
        info = await away(self.client.info("memory"))
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise RedisRefused(f"its maxmemory-policy is {policy}, which can drop the queue; set it to noeviction")

    # Driver ------------------------------------------------------------------------------------------------------

    async def open(self, run: str, *, status: str, owner: str, epoch: int, fields: Fields, reuse: Steps = ()) -> str:
        """Create a run's hash and its first events; `reuse`: results that another run had. `opened` or `exists`.

        Raises:
            Unavailable: Redis is away, or bytes that it names are being deleted: try again.

        """
        known = [part for end in reuse for part in end]
        answer = str(await self._step("open", run, owner, epoch, *_run_args(fields), status, *known))
        if answer == "deleting":
            raise Unavailable("bytes that the run needs are being collected as garbage", retry_after=2.0)
        return answer

    async def restore(
        self, run: str, *, owner: str, epoch: int, fields: Fields, last_event: str, ledger: Mapping[str, Any]
    ) -> str:
        """Rebuild a parked run, its events going on behind `last_event`: `restored`, or `exists`."""
        known = [part for path, outcome in ledger.items() for part in (path, outcome_json(outcome))]
        return str(await self._step("restore", run, owner, epoch, *_run_args(fields), last_event, *known))

    async def own(self, run: str, owner: str, epoch: int) -> str:
        """Become the run's driver: `owned`, `paused` (owned too), `stale`, `ended` or `missing`."""
        return str(await self._step("own", run, owner, epoch))

    async def dispatch(self, run: str, epoch: int, offers: Sequence[Offer], crash_budget: int) -> str:
        """Offer tasks to workers; those dispatched before are left as they are."""
        args: list[str | int] = []
        for o in offers:
            lists = compact(list(o.paths)), compact(list(o.starts))
            args += [o.name, o.queue, o.form, o.body, *lists, int(o.patience * 1000)]
        return str(await self._step("dispatch", run, epoch, crash_budget, *args))

    async def settle(self, run: str, epoch: int, ends: Sequence[NodeEnd]) -> str:
        """Write what the driver decides by itself: starts (an empty outcome), questions, and ends."""
        return str(await self._step("settle", run, epoch, *(part for end in ends for part in end)))

    async def finish(self, run: str, epoch: int | None, status: str, data: str) -> str:
        """End a run and its tasks; without an epoch for a cancel, which needs none. Answers a status if it had one."""
        return str(await self._step("finish", run, "" if epoch is None else epoch, status, data))

    async def pause(self, run: str) -> str:
        """Let running tasks end and none be taken: `paused`, `missing`, or the status in which it is."""
        return str(await self._step("pause", run))

    async def resume(self, run: str) -> str:
        """Go on with a paused run: `resumed`, `missing` (parked or lost), or the status in which it is."""
        return str(await self._step("resume", run))

    async def park(self, run: str, epoch: int, asked: Sequence[str] = ()) -> str:
        """Freeze a paused run none of whose tasks runs, to be copied: `parking`, or `busy` and the like.

        `asked`: a running one as well, if all these nodes still wait for answers and no task waits for anything.
        """
        return str(await self._step("park", run, epoch, *asked))

    async def answer(self, run: str, path: str, outcome: str, data: str) -> str:
        """End a node that waits for an answer: `ok`, `not-waiting`, `missing`, or the status of the run."""
        return str(await self._step("answer", run, path, outcome, data))

    async def parked(self, run: str, epoch: int) -> str:
        """Let Redis forget a frozen run that the database has."""
        return str(await self._step("parked", run, epoch))

    async def audit(self, run: str, epoch: int) -> int | str:
        """Put a run's tasks where their states say; returns how many were elsewhere, or why it may not be done."""
        answer: int | str = await self._step("audit", run, epoch)
        return answer

    async def tidy(self) -> None:
        """Count slots anew, remove consumers of dead workers."""
        await self._step("tidy")

    async def clear(self, run: str) -> int:
        """Remove what is left of a run without a hash; returns how many keys that were."""
        return int(await self._step("clear", run))

    async def abandon(self, run: str, seconds: float) -> bool:
        """Remove a run that is as old as that and was never accepted."""
        return bool(await self._step("abandon", run, int(seconds * 1000)))

    async def nudge(self, run: str) -> None:
        """Have the watchers of a run look again at what is known of it: it ended without an event."""
        message = compact({"type": "gap", "node": "", "attempt": 0, "at": 0, "data": {}})
        await away(self.client.publish(keys.live(run), message))

    async def look(self, runs: Sequence[str]) -> list[Left]:
        """What Redis has of each of these runs."""
        rows = await self._step("look", *runs)
        return [
            Left(run, status, owner, int(epoch), bool(stays))
            for run, (status, owner, epoch, stays) in zip(runs, rows, strict=True)
        ]

    async def runs_with_ledgers(self, cursor: int) -> tuple[int, list[str]]:
        """Return runs with a ledger, events or tasks: a page of keys, and where the next begins (0: the end)."""
        following, found = await away(self.client.scan(cursor, match=keys.PREFIX + "*", count=1000))
        kinds = tuple(kind("") for kind in (keys.ledger, keys.events, keys.tasks))
        named = {key.split(":", 2)[2] for key in found if key.startswith(kinds)}
        return int(following), sorted(named)

    async def archive(self, run: str, seconds: float) -> None:
        """Let Redis forget a run that the database has."""
        await self._step("archive", run, int(seconds * 1000))

    async def control_beat(self, owner: str, lease: float) -> None:
        """Renew a control's lease."""
        await self._step("control_beat", owner, int(lease * 1000))

    async def control_gone(self, owner: str) -> None:
        """Forget a control whose runs all have another driver."""
        await self._step("control_gone", owner)

    async def sweep(self, crashed: Problem, waited: Problem, most: int = 100) -> Swept:
        """See to due timers, lapsed leases, tasks that waited too long, dead workers; find lapsed controls."""
        found = await self._step("sweep", most, compact(crashed), compact(waited))
        timers, leases, workers, *controls = found
        return Swept(timers, leases, workers, [str(owner) for owner in controls])

    # Worker ------------------------------------------------------------------------------------------------------

    async def register(self, worker: str, expiry: float, manifest: str, slots: Mapping[str, int]) -> None:
        """Announce a worker for `expiry` seconds."""
        await self._step("register", worker, int(expiry * 1000), manifest, compact(dict(slots)))

    async def unregister(self, worker: str) -> None:
        """Say goodbye."""
        await self._step("unregister", worker)

    async def take(self, worker: str, nonce: str, lease: float, free: Mapping[str, int]) -> list[Taken]:
        """Take at most `free[queue]` tasks of each queue; the same nonce again gives the same tasks again."""
        args = [part for item in free.items() for part in item]
        rows = await self._step("take", worker, nonce, int(lease * 1000), *args)
        return [Taken(task, int(attempt), body, queue, int(waited)) for task, attempt, body, queue, waited in rows]

    async def beat(self, worker: str, lease: float, expiry: float, rights: Sequence[Right]) -> tuple[bool, list[str]]:
        """Renew leases; returns whether we are still known, and the tasks that we lost."""
        args = [part for right in rights for part in right.args]
        known, *lost = await self._step("beat", worker, int(lease * 1000), int(expiry * 1000), *args)
        return bool(known), [str(task) for task in lost]

    async def commit(self, right: Right, steps: Sequence[NodeEnd], *, last: bool) -> str:
        """Make nodes' starts (an empty outcome) and ends true, in order; the last commit ends the task."""
        rest = [part for step in steps for part in step]
        return str(await self._step("commit", *right.args, "1" if last else "", *rest))

    async def give_back(
        self, right: Right, cause: str, *, delay: float = 0.0, failed: Mapping[str, str] = _NOTHING, spent: str = "{}"
    ) -> str:
        """Hand a task back for another attempt: after `delay` seconds if the cause is an `error` of the nodes `failed`.

        These are paths with their events' data. Crashes and drains have budgets and delays of their own; a spent one
        fails the task with the problem `spent`.
        """
        pairs = [part for pair in failed.items() for part in pair]
        return str(await self._step("give_back", *right.args, cause, int(delay * 1000), spent, *pairs))

    async def tick(self, right: Right, path: str, kind: str, data: str, *, keep: bool) -> str:
        """Show progress or a preview; the answer tells a worker that its task is no longer wanted."""
        return str(await self._step("tick", *right.args, path, kind, data, "1" if keep else ""))

    # Reading -----------------------------------------------------------------------------------------------------

    async def ledger(self, run: str) -> dict[str, dict[str, Any]]:
        """Outcomes by path."""
        rows = await away(self.client.hgetall(keys.ledger(run)))
        return {path: json.loads(text) for path, text in rows.items()}

    async def time(self) -> int:
        """Milliseconds since 1970, by the clock of Redis."""
        seconds, micros = await away(self.client.time())
        return int(seconds) * 1000 + int(micros) // 1000

    async def nodes(self, run: str, paths: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Outcomes of some paths, of those that have one."""
        rows = await away(self.client.hmget(keys.ledger(run), list(paths)))
        return {path: json.loads(text) for path, text in zip(paths, rows, strict=True) if text}

    async def place(self, task: str) -> Place | None:
        """Where a task is; its id is `{run}/{name}`."""
        found = await self._step("place", task)
        return Place(*found) if found else None

    async def paths(self, run: str) -> list[str]:
        """Every path that has an outcome."""
        found: list[str] = await away(self.client.hkeys(keys.ledger(run)))
        return found

    async def statuses(self, run: str) -> dict[str, str]:
        """Status by path; outcomes begin with it, so they are not parsed."""
        rows = await away(self.client.hgetall(keys.ledger(run)))
        return {path: text[11 : text.index('"', 11)] for path, text in rows.items()}

    async def ticks_of(self, run: str, paths: Sequence[str]) -> dict[str, Any]:
        """Last progress of some paths, of those that have one."""
        rows = await away(self.client.hmget(keys.ticks(run), list(paths)))
        return {path: json.loads(text) for path, text in zip(paths, rows, strict=True) if text}

    async def ticks(self, run: str) -> dict[str, Any]:
        """Last progress by path."""
        rows = await away(self.client.hgetall(keys.ticks(run)))
        return {path: json.loads(text) for path, text in rows.items()}

    async def run_fields(self, run: str, *names: str) -> list[str | None]:
        """Fields of a run's hash."""
        values: list[str | None] = await away(self.client.hmget(keys.run(run), list(names)))
        return values

    async def errors(self, task: str) -> dict[str, int]:
        """How often each node of a task has failed and was to be tried again."""
        fields = await away(self.client.hgetall(keys.task(task)))
        marked = "errors:"
        return {name.removeprefix(marked): int(n) for name, n in fields.items() if name.startswith(marked)}

    async def enqueue(self, run: str) -> str:
        """Put a run that waits for a driver in line, if it is not there: `ok`, `missing` or its status."""
        return str(await self._step("enqueue", run))

    async def next_waiting(self) -> str | None:
        """Take the next run without a driver, fairly among tenants, if there is one."""
        run = await self._step("next_waiting")
        return str(run) if run else None

    async def state(self, queue: str) -> QueueState:
        """How much waits for a queue's workers, and since when."""
        ready, in_stream, taken, oldest, last = await self._step("queue_state", queue)
        return QueueState(ready, in_stream, taken, oldest / 1000, str(last))

    async def idle(self, run: str) -> bool:
        """Whether a run is running, yet none of its tasks is under way: only its driver can bring it on."""
        return bool(await self._step("idle", run))

    async def unread(self, owner: str, after: str) -> float:
        """Seconds for which the first entry behind `after` has waited in a control's stream."""
        rows = await away(self.client.xrange(keys.drive(owner), min=f"({after}", count=1))
        if not rows:
            return 0.0
        seconds, micros = await away(self.client.time())
        return max(0.0, float(seconds) + float(micros) / 1e6 - float(str(rows[0][0]).partition("-")[0]) / 1000)

    async def dead_letters(self, before: str = "+", limit: int = 100) -> list[DeadLetter]:
        """Tasks that used up their budget, newest first."""
        rows = await away(self.client.xrevrange(keys.DEAD, max=before, count=limit))
        return [_letter(entry, fields) for entry, fields in rows or ()]

    async def dead_letter(self, letter: str) -> DeadLetter | None:
        """One of them."""
        rows = await away(self.client.xrange(keys.DEAD, min=letter, max=letter))
        return _letter(*rows[0]) if rows else None

    async def bury(self, letter: str) -> None:
        """Forget a dead letter."""
        await away(self.client.xdel(keys.DEAD, letter))

    async def live_controls(self) -> set[str]:
        """Controls whose lease holds, by their own last word (lapsed ones are adopted by the beat)."""
        return {str(name) for name in await away(self.client.zrange(keys.CONTROLS, 0, -1))}

    async def waiting_count(self, tenant: str) -> tuple[int, int]:
        """How many runs wait for a driver, and how many of them are this tenant's."""
        every, own = await self._step("waiting_count", tenant)
        return every, own


def _letter(entry: str, fields: Mapping[str, str]) -> DeadLetter:
    """Letters of the version before had neither run, tenant, paths nor history."""
    missing = {"run": fields["task"].partition("/")[0], "tenant": "default", "paths": "[]", "history": "[]"}
    return DeadLetter(str(entry), {**missing, **fields})
