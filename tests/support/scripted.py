"""A worker that does by the protocol just what a test tells it."""

import itertools
import json
from typing import Any

from spindle_common.queue import NodeEnd, Queue, Right, Taken, compact, outcome_text

Json = dict[str, Any]
_ANY: Json = {"kind": "value", "schema": {}, "required": False}
MANIFEST: Json = {
    "schema": "spindle.manifest/v1",
    "worker": "scripted",
    "version": "0",
    "slots": {"async": 1},
    "node_types": [
        {
            "type": "test.noop@1",
            "title": "Do nothing",
            "queue": "async",
            "open_inputs": "^in[a-z0-9_]*$",
            "inputs": {"value": _ANY},
            "outputs": {"value": _ANY},
        }
    ],
    "models": [],
}


class ScriptedWorker:
    """Takes, commits and dies when it is told to; offers `test.noop@1`."""

    def __init__(self, queue: Queue, name: str = "scripted") -> None:
        self._queue, self.name = queue, name
        self._nonces = itertools.count()

    async def register(self, slots: int) -> None:
        """Announce so many slots; with none, nothing is bound to it yet."""
        await self._queue.register(self.name, 600.0, compact(MANIFEST), {"async": slots})

    async def take(self, count: int = 1, lease: float = 60.0) -> list[tuple[Taken, Right]]:
        nonce = f"n{next(self._nonces)}"
        rows = await self._queue.take(self.name, nonce, lease, {"async": count})
        return [(row, Right(row.task, row.attempt, nonce)) for row in rows]

    async def complete(self, taken: Taken, right: Right) -> None:
        """Commit every node of a task."""
        outcome = outcome_text("completed", outputs={"value": 1})
        ends = [NodeEnd(path, outcome, compact({"outputs": {"value": 1}})) for path in json.loads(taken.body)["nodes"]]
        assert await self._queue.commit(right, ends, last=True) == "ok"
