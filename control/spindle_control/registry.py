"""Which node types exist, who offers them, and how the queues stand.

Manifests come from Redis (live workers) and from the database (types ever announced), so that a restarted control
knows the types before any worker is back. The same type@version with another schema is refused, and shown.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from spindle_common import keys
from spindle_common.connection import away
from spindle_common.contracts import Manifest, ModelInfo, NodeType
from spindle_common.events import rfc3339
from spindle_common.problems import Unavailable
from spindle_common.queue import Queue
from spindle_control import metrics
from spindle_control.compiler import Catalog
from spindle_control.standing import QueueWatch
from spindle_control.store import Store

log = logging.getLogger(__name__)
_REFRESH_SECONDS = 0.5
Json = dict[str, Any]


class Registry:
    """The catalog of the moment, refreshed while `run` runs."""

    def __init__(self, queue: Queue, store: Store) -> None:
        self._queue, self._store = queue, store
        self._types: dict[str, NodeType] = {}
        self._refused: dict[str, list[str]] = {}
        self._live: dict[str, tuple[str, Manifest]] = {}
        self._marks: dict[str, str] = {}
        self._catalog = Catalog({}, {}, frozenset(), {}, None)
        self.generation = 0
        self._depths: list[Json] = []
        self._watch = QueueWatch()
        self._measured = time.monotonic()
        self._refusals = metrics.Follower(metrics.fences_refused)
        self._lapses = metrics.Follower(metrics.leases_lapsed.labels("crash"))

    async def run(self) -> None:
        """Keep the catalog and the figures of the queues fresh until cancelled."""
        while True:
            try:
                await self.refresh()
                await self._measure()
            except Unavailable as error:
                self._watch = QueueWatch()  # nobody could take anything
                log.warning("registry: %s", error)
            except Exception:
                log.exception("registry failed")
            await asyncio.sleep(_REFRESH_SECONDS)

    async def load(self) -> None:
        """Read the types that the database knows, then the live workers."""
        for described in await self._store.node_types():
            self._types[described["type"]] = NodeType.model_validate(described)
        await self.refresh()
        self._rebuild()

    async def refresh(self) -> None:
        """Read the workers' manifests where they changed. Raises Unavailable."""
        client = self._queue.client
        names = [str(name) for name in await away(client.zrange(keys.WORKERS, 0, -1))]
        since = {name: await away(client.hget(keys.worker(name), "since")) for name in names}
        current = {name: mark for name, mark in since.items() if mark}
        if current == self._marks:
            return
        await self._admit(await self._manifests(current))
        self._marks = current

    async def _manifests(self, marks: Mapping[str, str]) -> dict[str, tuple[str, Manifest]]:
        live = {}
        for name, mark in marks.items():
            text = await away(self._queue.client.hget(keys.worker(name), "manifest"))
            try:
                live[name] = (mark, Manifest.model_validate_json(text or "{}"))
            except ValidationError as error:  # one worker's nonsense must not keep control from starting
                log.error("worker %s announces no manifest: %d mistakes", name, error.error_count())
        return live

    async def _admit(self, live: dict[str, tuple[str, Manifest]]) -> None:
        """Keep new node types in the database; note those that contradict what is known.

        Workers and their types show together, once the database has them: who sees a worker may submit for it, and
        what the database refused to take is tried again.
        """
        types, contradictions = dict(self._types), {}
        for name, (_, manifest) in live.items():
            described = [t.model_dump(mode="json", by_alias=True, exclude={"queue"}) for t in manifest.node_types]
            if refused := await self._store.save_node_types(described):
                log.error("worker %s announces other schemas for %s", name, ", ".join(refused))
                contradictions[name] = refused
            for node_type in manifest.node_types:
                if node_type.type not in refused:
                    types[node_type.type] = node_type
        self._live, self._types, self._refused = live, types, contradictions
        self._rebuild()

    def _rebuild(self) -> None:
        queues: dict[str, set[str]] = {name: set() for name in self._types}
        models: dict[str, ModelInfo] = {}
        default = None
        live: set[str] = set()
        for name, (_, manifest) in sorted(self._live.items()):
            live |= {queue for queue, count in manifest.slots.items() if count}
            for node_type in manifest.node_types:
                if node_type.queue and node_type.type not in self._refused.get(name, ()):
                    queues[node_type.type].add(node_type.queue)
            for model in manifest.models:
                models.setdefault(model.name, model)
                default = default or (model.name if model.default else None)
        offered = {name: frozenset(found) or self._remembered(name) for name, found in queues.items()}
        self._catalog = Catalog(dict(self._types), offered, frozenset(live), models, default)
        self.generation += 1

    def _remembered(self, name: str) -> frozenset[str]:
        """Queues of a type that no live worker offers: those it had when last seen here."""
        return self._catalog.queues.get(name) or frozenset(filter(None, [self._types[name].queue]))

    def catalog(self) -> Catalog:
        """What documents are checked and planned against."""
        return self._catalog

    # For people ----------------------------------------------------------------------------------------------------

    async def node_types(self) -> list[Json]:
        """Every node type, with the queues on which live workers offer it."""
        return [
            t.model_dump(mode="json", by_alias=True, exclude={"queue"}) | {"queues": sorted(self._catalog.queues[name])}
            for name, t in sorted(self._types.items())
        ]

    async def workers(self) -> list[Json]:
        """Live workers: slots, models, the types refused because their schemas contradict."""
        return [
            {
                "id": name,
                "version": manifest.version,
                "host": _text(manifest.host),
                "metrics_url": _text(manifest.metrics_url),
                "since": rfc3339(int(mark)),
                "slots": manifest.slots,
                "node_types": sorted(t.type for t in manifest.node_types),
                "models": [model.model_dump(mode="json") for model in manifest.models],
                "refused": self._refused.get(name, []),
            }
            for name, (mark, manifest) in sorted(self._live.items())
        ]

    async def queues(self) -> list[Json]:
        """Each queue: slots, how many wait and run, and how long the oldest has waited."""
        await self._measure()
        return self._depths

    @property
    def stuck(self) -> Mapping[str, float]:
        """Queues whose tasks wait although slots are free and nothing is taken -> seconds."""
        return self._watch.stuck

    @property
    def silence(self) -> float:
        """Seconds since the queues were last measured."""
        return time.monotonic() - self._measured

    async def _measure(self) -> None:
        slots: Mapping[str, str] = await away(self._queue.client.hgetall(keys.SLOTS))
        known = set(slots) | {queue for found in self._catalog.queues.values() for queue in found}
        self._depths = [await self._queue_state(queue, int(slots.get(queue, 0))) for queue in sorted(known)]
        for state in self._depths:
            metrics.queue_depth.labels(state["queue"]).set(state["waiting"])
            metrics.queue_oldest.labels(state["queue"]).set(state["oldest_seconds"])
            metrics.queue_slots.labels(state["queue"]).set(state["slots"])
            metrics.queue_stuck.labels(state["queue"]).set(self.stuck.get(state["queue"], 0.0))
        self._measured = time.monotonic()
        metrics.workers.set(len(self._live))
        counters = await away(self._queue.client.hgetall(keys.COUNTERS))
        self._refusals.follow(int(counters.get("fences_refused", 0)))
        self._lapses.follow(int(counters.get("leases_lapsed", 0)))
        memory = await away(self._queue.client.info("memory"))
        metrics.redis_memory.set(memory["used_memory"])
        metrics.redis_limit.set(memory.get("maxmemory", 0))

    async def _queue_state(self, queue: str, slots: int) -> Json:
        found = await self._queue.state(queue)
        waiting = found.ready + max(0, found.in_stream - found.taken)
        self._watch.look(queue, found, free=waiting > 0 and slots > found.taken)
        return {
            "queue": queue,
            "slots": slots,
            "waiting": waiting,
            "running": found.taken,
            "oldest_seconds": found.oldest if waiting else 0.0,
        }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
