"""Where a result comes from: the run's workflow, with drawn seeds written in, and its inputs."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from spindle_common.problems import StateLost
from spindle_common.queue import Queue

_MOST = 64
_SECONDS = 30
_PACKAGES = ("spindle-worker", "diffusers", "transformers", "torch", "pillow")


class Provenance:
    """Reads it from the run's hash, for node threads; a run's never changes, so the last few are kept."""

    def __init__(self, queue: Queue, loop: asyncio.AbstractEventLoop) -> None:
        self._queue, self._loop = queue, loop
        self._kept: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        self._versions = _versions()

    def __call__(self, run: str) -> Mapping[str, Any]:
        """Return {run, seeds_from, workflow, inputs, versions}; blocks its thread. Raises StateLost, Unavailable."""
        if run not in self._kept:
            self._kept[run] = asyncio.run_coroutine_threadsafe(self._read(run), self._loop).result(_SECONDS)
            if len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        return self._kept[run]

    async def _read(self, run: str) -> Mapping[str, Any]:
        workflow, inputs, seeds = await self._queue.run_fields(run, "workflow", "inputs", "seeds")
        if workflow is None or inputs is None:
            raise StateLost("Redis no longer holds this run")
        known = {"workflow": json.loads(workflow), "inputs": json.loads(inputs), "versions": self._versions}
        return {"run": run, "seeds_from": seeds or run} | known


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
