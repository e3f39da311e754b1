"""Simulated workers: they register, take, beat, commit, give back, drain, in any order that a real one might.

Nodes of a tenant whose paths end alike are the same work: what one worker computes others may find, or wait for.
"""

import json
import random
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from protocol.database import QUEUES
from protocol.world import LEASE, Command, World
from spindle_common.cache import LEAD, WAIT, Cache, Wanted, outputs_of
from spindle_common.problems import Crashed, Unavailable
from spindle_common.queue import NodeEnd, Queue, Right, Taken, compact, outcome_text

SPENT = compact(Crashed().problem())
Drive = Coroutine[Command, Any, None]


async def patiently(call: Callable[[], Awaitable[Any]]) -> Any:
    """Repeat a step until its reply arrives, as every real caller does."""
    while True:
        try:
            return await call()
        except Unavailable:
            continue


@dataclass
class Held:
    """A task that the worker believes to be its own."""

    taken: Taken
    right: Right
    open: list[str]
    found: dict[str, str] = field(default_factory=dict)


class Worker:
    """One process; `script`: the protocol that it speaks."""

    def __init__(self, world: World, name: str, rng: random.Random, script: str | None = None) -> None:
        self._queue: Queue = world.queue(script)
        self._cache = Cache(self._queue.client, world.script)
        self._world, self._name, self._rng = world, name, rng
        self._slots = {queue: rng.choice((1, 1, 2)) for queue in QUEUES if rng.random() < 0.6} or {"cpu": 1}
        self.old = script is not None
        self._held: list[Held] = []
        self._nonces = 0
        self.stopping = False

    async def run(self) -> None:
        """Work until told to stop, then hand back what is left."""
        await patiently(self._register)
        while not self.stopping or self._held:
            if self.stopping and self._rng.random() < 0.2:
                await self._drain()
                break
            await self._turn()
        await patiently(lambda: self._queue.unregister(self._name))

    async def _register(self) -> None:
        await self._queue.register(self._name, LEASE, "{}", self._slots)

    async def _turn(self) -> None:
        draw = self._rng.random()
        if self._held and draw < 0.4:
            await self._work(self._rng.choice(self._held))
        elif draw < 0.75 and not self.stopping and self._free():
            await self._take()
        else:
            await self._beat()

    def _free(self) -> dict[str, int]:
        busy = [held.taken.queue for held in self._held]
        return {queue: count - busy.count(queue) for queue, count in self._slots.items() if count > busy.count(queue)}

    async def _take(self) -> None:
        self._nonces += 1
        nonce, free = f"{self._name}.{self._nonces}", self._free()
        for taken in await patiently(lambda: self._queue.take(self._name, nonce, LEASE, free)):
            right = Right(taken.task, taken.attempt, nonce)
            self._held.append(Held(taken, right, json.loads(taken.body)["nodes"]))

    async def _beat(self) -> None:
        rights = [held.right for held in self._held]
        try:
            known, lost = await self._queue.beat(self._name, LEASE, LEASE, rights)
        except Unavailable:
            return
        self._held = [held for held in self._held if held.right.task not in lost]
        if not known:
            await patiently(self._register)

    async def _drain(self) -> None:
        for held in self._held:
            await self._give_back(held.right, "drain")
        self._held.clear()

    async def _give_back(self, right: Right, cause: str) -> None:
        """By our own script; the version before wanted a path and data, too."""
        before = ("", "{}") if self.old else ()
        await patiently(lambda: self._queue._step("give_back", *right.args, cause, 0, *before, SPENT))

    # One task ------------------------------------------------------------------------------------------------------

    async def _work(self, held: Held) -> None:
        draw, right, path = self._rng.random(), held.right, held.open[0]
        if draw < 0.12:
            await patiently(lambda: self._queue.tick(right, path, "node.progress", "{}", keep=True))
        elif draw < 0.17 and not self.old:  # what the version before did to a copy that had ended was wrong
            delay = self._rng.choice((0.0, 0.5, 2.0))
            await patiently(lambda: self._queue.give_back(right, "error", delay=delay, failed={path: "{}"}))
            self._held.remove(held)
        elif draw < 0.2:
            await self._give_back(right, "crash")
            self._held.remove(held)
        elif not self.old and path not in held.found and self._rng.random() < 0.9:
            await self._look(held, Wanted(path, f"t.same@1:{path[-1]}", fly=path != "t"))
        else:
            await self._commit(held)

    async def _look(self, held: Held, wanted: Wanted) -> None:
        looked = await patiently(lambda: self._cache.recall(held.right, [wanted]))
        if looked.refused:
            self._held.remove(held)
            return
        answer = looked.answers[0]
        if answer == WAIT:
            await patiently(lambda: self._cache.wait(held.right, [wanted]))
            self._held.remove(held)
        elif answer != LEAD and self._rng.random() < 0.6:  # its bytes are gone
            await patiently(lambda: self._cache.lost(looked.tenant, wanted.name, answer))
        else:
            held.found[wanted.path] = answer

    async def _commit(self, held: Held) -> None:
        count = self._rng.randint(1, len(held.open))
        paths, held.open = held.open[:count], held.open[count:]
        ends = [self._end(held, path) for path in paths]
        if held.open and self._rng.random() < 0.5:
            ends.append(NodeEnd(held.open[0], "", "{}"))
        last = not held.open
        answer = await patiently(lambda: self._queue.commit(held.right, ends, last=last))
        if answer != "ok" or last:
            self._held.remove(held)

    def _end(self, held: Held, path: str) -> NodeEnd:
        found = held.found.get(path, LEAD)
        if found != LEAD:
            outputs = outputs_of(found)
            return NodeEnd(path, outcome_text("completed", outputs=outputs, reused=True), compact({"outputs": outputs}))
        if self._rng.random() < 0.08:
            problem = {"problem": {"title": "no"}}
            return NodeEnd(path, outcome_text("failed", **problem), compact(problem))
        right = held.right
        outputs = {"value": f"{right.task}#{right.attempt}#{right.nonce}:{path}", "none": []}
        return NodeEnd(path, outcome_text("completed", outputs=outputs), compact({"outputs": outputs}))
