"""Everything that the server holds, read at one moment by one script, in the words of the protocol."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from spindle_common import keys

Hash = dict[str, str]
DUMP = """
local found = {}
for _, key in ipairs(redis.call('KEYS', 'spindle:*')) do
  local kind = redis.call('TYPE', key).ok
  local value, more = {}, {}
  if kind == 'hash' then value = redis.call('HGETALL', key)
  elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'set' then value = redis.call('SMEMBERS', key)
  elseif kind == 'stream' then
    value = redis.call('XRANGE', key, '-', '+')
    if string.find(key, 'spindle:drive:', 1, true) == 1 then more = {redis.call('PTTL', key) > 0 and 1 or 0} end
    if string.find(key, 'spindle:queue:', 1, true) == 1 and #redis.call('XINFO', 'GROUPS', key) > 0 then
      for _, p in ipairs(redis.call('XPENDING', key, 'workers', '-', '+', 1000)) do more[#more + 1] = {p[1], p[2]} end
      for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', key, 'workers')) do more[#more + 1] = {'', c[2]} end
    end
  end
  found[#found + 1] = {key, value, more}
end
return cjson.encode(found)
"""


def _pairs(flat: Sequence[Any]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


@dataclass
class Stream:
    """A stream of a queue: entry -> task, the entries taken, the consumers."""

    entries: dict[str, str] = field(default_factory=dict)
    pending: dict[str, str] = field(default_factory=dict)
    consumers: set[str] = field(default_factory=set)


@dataclass
class Snapshot:
    """The server's state."""

    raw: dict[str, Any] = field(default_factory=dict)
    runs: dict[str, Hash] = field(default_factory=dict)
    ledgers: dict[str, Hash] = field(default_factory=dict)
    events: dict[str, list[tuple[str, Hash]]] = field(default_factory=dict)
    tasks: dict[str, Hash] = field(default_factory=dict)
    workers: dict[str, Hash] = field(default_factory=dict)
    streams: dict[str, Stream] = field(default_factory=dict)
    lanes: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    sets: dict[str, dict[str, str]] = field(default_factory=dict)
    flights: dict[str, Hash] = field(default_factory=dict)

    def in_lane(self, task: str) -> int:
        """In how many lanes a task is."""
        return sum(members.count(task) for tenants in self.lanes.values() for members in tenants.values())

    def slots(self, queue: str, form: str = "") -> int:
        """Slots of a queue, of workers that understand the form, as the pump counts them."""
        return int(self.sets.get(f"slots:{form}" if form else "slots", {}).get(queue, 0))

    def bound(self, queue: str, *, frames: bool) -> int:
        """How many entries of a queue the pump counts."""
        forms = ["", "frames"] if frames else [""]
        return sum(len(self.streams.get(stream_name(queue, form), Stream()).entries) for form in forms)


def stream_name(queue: str, form: str) -> str:
    """Name of a stream in `Snapshot.streams`."""
    return f"{queue}:{form}" if form else queue


def home(task: Hash) -> str:
    """The stream where a task is when it may be taken."""
    return stream_name(task.get("queue", ""), task.get("form", ""))


def parse(dump: str) -> Snapshot:
    """Read what DUMP answers."""
    shot = Snapshot()
    for key, value, more in json.loads(dump):
        kind, _, rest = key.removeprefix(keys.PREFIX).partition(":")
        shot.raw[key] = (value, more)
        _file(shot, kind, rest, value, more)
    return shot


def _file(shot: Snapshot, kind: str, rest: str, value: Any, more: Any) -> None:
    hashes = {"run": shot.runs, "ledger": shot.ledgers, "task": shot.tasks, "worker": shot.workers}
    hashes["flights"] = shot.flights
    if kind in hashes:
        hashes[kind][rest] = _pairs(value)
    elif kind == "events":
        shot.events[rest] = [(entry, _pairs(fields)) for entry, fields in value]
    elif kind == "queue":
        pending = {entry: consumer for entry, consumer in more if entry}
        consumers = {consumer for entry, consumer in more if not entry}
        shot.streams[rest] = Stream({entry: fields[1] for entry, fields in value}, pending, consumers)
    elif kind == "lane" and ":" in rest:
        queue, _, tenant = rest.partition(":")
        shot.lanes.setdefault(queue, {})[tenant] = list(_pairs(value))
    elif kind in ("leases", "timers", "patience", "workers", "controls", "slots", "counters") and not rest:
        shot.sets[kind] = _pairs(value)
    elif kind == "slots":
        shot.sets[f"slots:{rest}"] = _pairs(value)
