"""What Redis holds of a run that has ended: read in one round trip, to be archived."""

import json
from typing import Any, NamedTuple

from spindle_common import keys
from spindle_common.connection import away
from spindle_common.events import Event, from_entry
from spindle_common.values import Outcome


class Remains(NamedTuple):
    """How a run ended (nothing where Redis lost it; `ended_at` in milliseconds), its ledger and its events."""

    status: str | None
    ending: str | None
    ended_at: int | None
    ledger: dict[str, Outcome]
    events: list[Event]


async def remains_of(client: Any, run: str, most_events: int) -> Remains:
    """Read them. Raises Unavailable."""
    pipeline = client.pipeline(transaction=False)
    pipeline.hmget(keys.run(run), ["status", "ending", "ended_at"])
    pipeline.hgetall(keys.ledger(run))
    pipeline.xrange(keys.events(run), count=most_events)
    (status, ending, ended_at), ledger, rows = await away(pipeline.execute())
    return Remains(
        status,
        ending,
        int(ended_at) if ended_at else None,
        {path: json.loads(text) for path, text in ledger.items()},
        [from_entry(run, entry, fields) for entry, fields in rows],
    )
