"""A worker without a process: takes tasks and runs attempts in the test's own loop, on a real Redis and folder."""

import asyncio
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spindle_common.artifacts import ObjectStore, open_store
from spindle_common.cache import Cache
from spindle_common.garbage import Garbage
from spindle_common.queue import Offer, Queue, Right, compact
from spindle_worker.attempt import Attempt, Equipment
from spindle_worker.node import NodeSpec
from spindle_worker.patience import PatientStore
from spindle_worker.reuse import ContentCache, Keys

Json = dict[str, Any]
FIELDS: dict[str, str | int | float] = {
    "tenant": "default",
    "weight": 1,
    "priority": 0,
    "workflow": "{}",
    "inputs": "{}",
    "plan": "{}",
    "traceparent": "",
}


class Desk:
    """One worker; `caches`: whether it uses the content cache."""

    def __init__(self, client: Any, folder: Path, specs: Sequence[NodeSpec], name: str = "w1", **more: Any) -> None:
        self.name, self._client = name, client
        self.queue, self.cache = Queue(client), Cache(client)
        garbage = Garbage(client)
        self.store: ObjectStore = open_store(folder, announce=garbage.spare)
        content = ContentCache(self.cache, garbage, self.store, Keys({}))
        self.content = content if more.pop("caches", True) else None
        by_type: Mapping[str, NodeSpec] = {spec.type: spec for spec in specs}
        patient = PatientStore(self.store, 1.0)
        self._equipment = Equipment(self.queue, patient, by_type, cache=self.content, **more)
        self._nonces = itertools.count()
        self.lease = 30.0

    async def open(self, run: str, tenant: str = "default") -> None:
        """Open a run and have slots for its tasks."""
        await self.queue.register(self.name, 600.0, "{}", {"async": 8})
        await self.queue.open(run, status="running", owner="c1", epoch=1, fields=FIELDS | {"tenant": tenant})

    async def dispatch(self, run: str, nodes: Json, name: str = "", **more: Any) -> None:
        """Offer one task of these nodes."""
        name = name or next(iter(nodes))
        body = {"schema": "spindle.task/v1", "run": run, "task": name, "queue": "async", "nodes": nodes, **more}
        starts = [id_ for id_, node in nodes.items() if not node.get("needs")]
        assert await self.queue.dispatch(run, 1, [Offer(name, "async", compact(body), list(nodes), starts)], 3) == "ok"

    async def take(self) -> list[Attempt]:
        """Take whatever there is."""
        nonce = f"{self.name}.{next(self._nonces)}"
        rows = await self.queue.take(self.name, nonce, self.lease, {"async": 8})
        return [Attempt(row, Right(row.task, row.attempt, nonce), self._equipment) for row in rows]

    async def work(self) -> list[str]:
        """Take whatever there is and run it; how the attempts ended."""
        return list(await asyncio.gather(*(attempt.run() for attempt in await self.take())))

    async def run(self, run: str, nodes: Json, tenant: str = "default", **more: Any) -> Json:
        """Open a run of one task and work until it has ended; returns its ledger."""
        await self.open(run, tenant)
        await self.dispatch(run, nodes, **more)
        assert await self.work() == ["done"]
        return await self.queue.ledger(run)

    async def events(self, run: str) -> list[tuple[str, str, Json]]:
        """Types, nodes and data of a run's events."""
        rows: Any = await self._client.xrange(f"spindle:events:{run}")
        return [(fields["type"], fields["node"], json.loads(fields["data"])) for _, fields in rows]

    async def close(self) -> None:
        """End what it writes."""
        if self.content is not None:
            await self.content.close()
        await self.store.close()
