"""Every Redis key and channel of Spindle, as the Lua file builds them too.

| key | type | holds |
|---|---|---|
| run:{run} | hash | status, owner, epoch, tenant, priority, workflow, inputs, seeds |
| ledger:{run} | hash | node path -> outcome; the only record of results while a run is in flight |
| events:{run} | stream | durable events; their ids are the cursor everywhere |
| ticks:{run} | hash | node path -> last progress |
| tasks:{run} | set | names of its tasks |
| task:{run}/{name} | hash | state, attempt (the fence), nonce, lease, body |
| lane:{queue} | sorted set | tenants with tasks that may run -> pass; the least is served next |
| lane:{queue}:{tenant} | sorted set | a tenant's tasks that may run, best first |
| passes:{lane} | hash | weights of tenants, where the last one served stood (lane: lane:{queue}, line) |
| queue:{queue} | stream | the few that workers may take now, of the form that every version of a worker understands |
| queue:{queue}:frames | stream | the same of bodies' tasks, which the version before would get wrong |
| leases, timers, patience | sorted sets | task -> milliseconds when it lapses, is due, has waited too long |
| workers, controls | sorted sets | process -> milliseconds when it counts as dead |
| worker:{worker} | hash | manifest, slots, last take |
| slots, slots:frames | hashes | queue -> slots of live workers, of those that understand bodies' tasks |
| drive:{owner} | stream | what wakes a control: commits and ends of its runs |
| line, line:{tenant} | sorted sets | tenants with runs without a driver, and these runs; as `lane` |
| ready:{queue}, waiting | sorted sets | what the version before wrote, until a script moves it to lane and line |
| dead | stream | tasks that used up their budget |
| collecting, collected | strings | the garbage collection that goes on, when the last one ended |
| condemned | hash | digest that a collection is about to delete -> that collection |
| deleting, spared | sorted sets | digest -> since when it is deleted, until when nobody may: someone puts its bytes |
| cache:{tenant}:{type}:{key} | string | a completed node's outcome, for an hour; the object store has it for longer |
| flight:{name} | hash | who computes what is not in the cache: task, attempt, since |
| waiters:{name} | sorted set | tasks that wait for a flight -> milliseconds since when |
| flights:{run}/{name} | hash | node path -> what becomes an entry once it is committed |
| cache_counts:{tenant} | hash | hits, misses |
| counters | hash | fences refused, leases lapsed |
"""

PREFIX = "spindle:"
GROUP = "workers"
LEASES = PREFIX + "leases"
TIMERS = PREFIX + "timers"
WORKERS = PREFIX + "workers"
CONTROLS = PREFIX + "controls"
SLOTS = PREFIX + "slots"
SLOTS_FRAMES = PREFIX + "slots:frames"
FORMS = ("", "frames")
"""What a worker must understand to run a task: nothing new; nodes whose paths have a prefix."""
DEAD = PREFIX + "dead"
COUNTERS = PREFIX + "counters"
COLLECTED = PREFIX + "collected"
STOPPED = PREFIX + "stopped"
"""Channel: ids of runs that ended, so that workers stop their tasks."""


def run(run_id: str) -> str:
    """Hash of a run."""
    return f"{PREFIX}run:{run_id}"


def ledger(run_id: str) -> str:
    """Hash of a run's outcomes by path."""
    return f"{PREFIX}ledger:{run_id}"


def events(run_id: str) -> str:
    """Stream of a run's durable events."""
    return f"{PREFIX}events:{run_id}"


def ticks(run_id: str) -> str:
    """Hash of the last progress by path."""
    return f"{PREFIX}ticks:{run_id}"


def task(task_id: str) -> str:
    """Hash of a task; its id is `{run}/{name}`."""
    return f"{PREFIX}task:{task_id}"


def tasks(run_id: str) -> str:
    """Set of the names of a run's tasks."""
    return f"{PREFIX}tasks:{run_id}"


def lane(queue: str) -> str:
    """Tenants that have tasks ready to run."""
    return f"{PREFIX}lane:{queue}"


def queue(name: str, form: str = "") -> str:
    """Stream from which workers take tasks of a form."""
    return f"{PREFIX}queue:{name}" + (f":{form}" if form else "")


def worker(worker_id: str) -> str:
    """Hash of a worker's manifest."""
    return f"{PREFIX}worker:{worker_id}"


def cache(tenant: str, name: str) -> str:
    """An entry of the content cache; its name is `{type}:{key}`."""
    return f"{PREFIX}cache:{tenant}:{name}"


def cache_counts(tenant: str) -> str:
    """Hash of a tenant's hits and misses."""
    return f"{PREFIX}cache_counts:{tenant}"


def drive(owner: str) -> str:
    """Stream that wakes a control."""
    return f"{PREFIX}drive:{owner}"


def live(run_id: str) -> str:
    """Channel of a run's events, ticks and previews."""
    return f"{PREFIX}live:{run_id}"
