"""A collector's surroundings for tests: real Redis, database and folder, and scripts whose times are short."""

import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from spindle_common.artifacts import ArtifactStore, Stored, open_store
from spindle_common.garbage import Garbage
from spindle_common.queue import SCRIPT
from spindle_control.garbage import Collector, Policy
from spindle_control.retention import Retention
from spindle_control.store import Store

HOUR = 3600.0
HOURLY = Policy(runs=None, artifacts=HOUR, idempotency=HOUR)


def sparing_for(milliseconds: int) -> str:
    """The scripts, with another time for which an announced put keeps collectors away."""
    changed = SCRIPT.replace("SPARE_MS = 60000, 600000", f"SPARE_MS = 60000, {milliseconds}")
    assert changed != SCRIPT
    return changed


@dataclass(frozen=True)
class Dump:
    """What a collector works on."""

    garbage: Garbage
    store: Store
    artifacts: ArtifactStore
    folder: Path

    def collector(self, policy: Policy = HOURLY, garbage: Garbage | None = None) -> Collector:
        return Collector(garbage or self.garbage, Retention(self.store), self.artifacts, policy)

    async def put(self, text: str, *, age: float = 2 * HOUR) -> str:
        """Keep bytes that were written so many seconds ago; returns their digest."""
        digest = str((await self.artifacts.put(text.encode(), "text/plain"))["digest"])
        name = digest.removeprefix("sha256:")
        then = time.time() - age
        os.utime(self.folder / "artifacts" / "sha256" / name[:2] / name, (then, then))
        return digest

    async def kept(self) -> set[str]:
        return {each.digest async for each in self._listed()}

    def _listed(self) -> AsyncIterator[Stored]:
        return self.artifacts.list()


@contextlib.asynccontextmanager
async def dump(garbage: Garbage, folder: Path) -> AsyncIterator[Dump]:
    store = await Store.open(f"sqlite+aiosqlite:///{folder / 'spindle.db'}")
    artifacts = open_store(folder)
    try:
        yield Dump(garbage, store, artifacts, folder)
    finally:
        await artifacts.close()
        await store.close()
