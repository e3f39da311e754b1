"""The content cache as all attempts of a worker share it: Redis in front, behind it the shelf of the object store.

    recall   Redis: hit, lead or wait        lead -> the shelf may have it -> found: back into Redis, all waiters wake
    fresh    a hit's bytes are there, and touched: garbage collection leaves them alone; so are those that a spilled
             value names, which is nobody else's to know
    keep     the commit puts it into Redis, and then it goes onto the shelf, behind everybody's back

A cache that is away costs a computation, never a run: then nodes are computed as if nothing had been kept.
"""

import asyncio
import json
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from spindle_common.artifacts import ArtifactNotFound, ObjectStore, StoreUnavailable
from spindle_common.cache import Cache, Looked, Wanted, outputs_of, place
from spindle_common.garbage import Garbage
from spindle_common.problems import Unavailable
from spindle_common.queue import Right
from spindle_common.spill import MARK, is_spilled
from spindle_worker import metrics
from spindle_worker.node import NodeSpec
from spindle_worker.reuse.keys import Keys

log = logging.getLogger(__name__)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_UNTOUCHED = timedelta(hours=1)
_SEEN_SECONDS = 60.0
_SEEN_MOST = 4096
_WRITES_MOST = 256
_WRITE_SECONDS = 0.05
_CLOSE_SECONDS = 5.0


class ContentCache:
    """Looks and keeps."""

    def __init__(self, steps: Cache, garbage: Garbage, store: ObjectStore, keys: Keys) -> None:
        self.steps = steps
        self._garbage, self._store, self._keys = garbage, store, keys
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._unwritten: dict[str, str] = {}
        self._writing: asyncio.Task[None] | None = None

    def wanted(self, spec: NodeSpec, path: str, inputs: Mapping[str, Any]) -> Wanted | None:
        """Name what a node computes; None for one that is not worth it or that cannot be named."""
        if not (spec.cacheable and spec.deterministic) or (spec.queue is None and not spec.handles):
            return None
        key = self._keys.of(spec, inputs)
        return Wanted(path, f"{spec.type}:{key}", not spec.handles) if key else None

    async def recall(self, right: Right, wanted: Sequence[Wanted]) -> Looked | None:
        """Ask Redis for several at once; None while it is away."""
        try:
            return await self.steps.recall(right, wanted)
        except Unavailable as error:
            log.warning("the cache is away: %s", error)
            return None

    async def checked(self, tenant: str, wanted: Wanted, outcome: str) -> dict[str, Any] | None:
        """Return a hit's outputs, its bytes touched; None if they are gone: then it is forgotten."""
        try:
            if await self._fresh(outcome):
                return outputs_of(outcome)
            await self.steps.lost(tenant, wanted.name, outcome)
        except Unavailable as error:
            log.warning("the cache is away: %s", error)
        return None

    async def on_shelf(self, right: Right, tenant: str, wanted: Wanted) -> dict[str, Any] | None:
        """Return what the object store has, for the leader: its waiters then have it too."""
        name = place(tenant, wanted.name)
        try:
            outcome = _understood(await self._store.shelved(name))
            if outcome is None:
                return None
            await self._garbage.spare(*_DIGEST.findall(outcome))
            if not await self._fresh(outcome):
                await self._store.unshelve(name)
                return None
            if await self.steps.found(right, wanted.path, outcome) != "ok":
                return None
        except Unavailable as error:
            log.warning("the cache is away: %s", error)
            return None
        self._write_later(name, outcome)  # which touches it
        return outputs_of(outcome)

    async def keep(self, tenant: str, wanted: Wanted, outcome: str) -> None:
        """Put an outcome onto the shelf before its commit wakes others, who find it nowhere else."""
        await self._shelve(place(tenant, wanted.name), outcome)

    def keep_later(self, tenant: str, wanted: Wanted, outcome: str) -> None:
        """Put an outcome that was committed onto the shelf, when there is time."""
        self._write_later(place(tenant, wanted.name), outcome)

    async def close(self) -> None:
        """Let what is being written come to its end, for a few seconds."""
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=_CLOSE_SECONDS)

    def _write_later(self, name: str, outcome: str) -> None:
        if len(self._unwritten) >= _WRITES_MOST:  # the store is slow: what is lost is computed again
            return
        self._unwritten[name] = outcome
        if self._writing is None or self._writing.done():
            self._writing = asyncio.ensure_future(self._write())

    async def _write(self) -> None:
        """Write what there is; the pause lets attempts end first, and keeps them apart from this."""
        while self._unwritten:
            await asyncio.sleep(_WRITE_SECONDS)
            unwritten, self._unwritten = self._unwritten, {}
            await asyncio.gather(*(self._shelve(*each) for each in unwritten.items()))

    async def _shelve(self, name: str, outcome: str) -> None:
        try:
            await self._store.shelve(name, outcome.encode())
        except StoreUnavailable as error:
            log.warning("not kept: %s", error)

    async def _fresh(self, outcome: str) -> bool:
        """Whether all bytes that it names are there; their time moves on. They have been spared."""
        try:
            await self._touch(_DIGEST.findall(outcome))
            for value in outputs_of(outcome).values():
                if is_spilled(value):
                    await self._look_into(value[MARK]["digest"])
        except ArtifactNotFound:
            return False
        return True

    async def _look_into(self, digest: str) -> None:
        """Spare and touch what a spilled value names: neither the entry nor the commit that names the value says it."""
        if self._just_seen(f"within {digest}"):
            return
        named = set(_DIGEST.findall((await self._store.read(digest)).decode()))
        await self._garbage.spare(*named)
        await self._touch(named)
        self._see(f"within {digest}")

    async def _touch(self, digests: Iterable[str]) -> None:
        await asyncio.gather(*(self._touch_one(digest) for digest in set(digests) if not self._just_seen(digest)))

    async def _touch_one(self, digest: str) -> None:
        if (await self._store.stat(digest)).modified < datetime.now(UTC) - _UNTOUCHED:
            await self._store.touch(digest)
        self._see(digest)

    def _just_seen(self, what: str) -> bool:
        return self._seen.get(what, -_SEEN_SECONDS) > time.monotonic() - _SEEN_SECONDS

    def _see(self, what: str) -> None:
        self._seen[what] = time.monotonic()
        self._seen.move_to_end(what)
        if len(self._seen) > _SEEN_MOST:
            self._seen.popitem(last=False)


def count(wanted: Wanted, outcome: str) -> None:
    """Count how a look ended: hit, stored, miss, wait."""
    metrics.cache_looks.labels(wanted.name.partition(":")[0], outcome).inc()


def _understood(data: bytes | None) -> str | None:
    """Read an entry; None where there is none, or a torn one."""
    try:
        text = (data or b"").decode()
        return text if isinstance(json.loads(text)["outputs"], dict) else None
    except (ValueError, KeyError, TypeError):
        return None
