"""Simulated workers and people: the real protocol, nodes ended one by one in any order that dependencies allow.

    Workers.work()     takes all there is, ends nodes, fails shaky ones and gives their tasks back, answers questions

What is held back (`held`) does not end, and is not answered, until it is let go.
"""

import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from oracle.nodes import PickyError, answer_to, compute, trips_of
from spindle_common.problems import BadInput, Crashed, TimedOut
from spindle_common.queue import NodeEnd, Queue, Right, Taken, compact, outcome_text
from spindle_common.spill import Bytes, Spill
from spindle_common.values import ENDED, Outcome, Scope, Skip, decide

Json = dict[str, Any]
_SPENT, _WAITED = Crashed().problem(), TimedOut().problem()
_FAILED = BadInput("three divides it").problem()
_SLOTS = dict.fromkeys(("cpu", "gpu", "async"), 200)


@dataclass
class Held:
    """A task in a worker's hands, with its nodes' `errors` before; those that failed now are to be tried `again`."""

    taken: Taken
    right: Right
    nodes: Json
    known: dict[str, Outcome]
    inputs: Json
    prefix: str
    errors: dict[str, int]
    again: set[str] = field(default_factory=set)

    @property
    def ready(self) -> list[str]:
        """Nodes whose needs have ended."""
        left = [id_ for id_ in self.nodes if id_ not in self.known]
        able = [id_ for id_ in left if not set(self.nodes[id_].get("needs", ())) & set(left)]
        return [id_ for id_ in able if id_ not in self.again]


class Workers:
    """They take everything at once; `held` is the path of a node that must wait, `eager` how soon people answer."""

    def __init__(self, queue: Queue, run: str, rng: random.Random, artifacts: Bytes) -> None:
        self._queue, self._run, self._rng, self._spill = queue, run, rng, Spill(artifacts)
        self.held: str | None = None
        self.eager = 0.7
        self._tasks: list[Held] = []
        self._nonces = 0
        self._ends: Counter[tuple[str, str]] = Counter()
        self.twice: list[str] = []
        self.ended: set[str] = set()

    async def register(self) -> None:
        """Be known, again if need be."""
        await self._queue.register("w", 3600.0, "{}", _SLOTS)

    async def work(self) -> None:
        """Work until cancelled."""
        while True:
            await self._take()
            await self._look()
            if not await self._turn():
                await self._queue.sweep(_SPENT, _WAITED)
                await asyncio.sleep(0.002)

    async def _look(self) -> None:
        """See what has ended; perhaps answer a question."""
        ledger = await self._queue.ledger(self._run)
        self.ended |= {path for path, outcome in ledger.items() if outcome["status"] in ENDED}
        asked = sorted(path for path, outcome in ledger.items() if "question" in outcome and path != self.held)
        if asked and self._rng.random() < self.eager:
            path = self._rng.choice(asked)
            outputs = {"answer": answer_to(path), "answered": True}
            end = outcome_text("completed", outputs=outputs), compact({"outputs": outputs})
            await self._queue.answer(self._run, path, *end)

    async def _take(self) -> None:
        self._nonces += 1
        nonce = f"n{self._nonces}"
        for taken in await self._queue.take("w", nonce, 600.0, dict.fromkeys(_SLOTS, 20)):
            body = json.loads(taken.body)
            prefix = body.get("prefix", "")
            known, errors = dict(body.get("feed", {})), dict[str, int]()
            if taken.attempt > 1:
                ledger = await self._queue.nodes(taken.run, [prefix + id_ for id_ in body["nodes"]])
                ends = {path: outcome for path, outcome in ledger.items() if outcome["status"] in ENDED}
                known |= {path.removeprefix(prefix): outcome for path, outcome in ends.items()}
                errors = await self._queue.errors(taken.task)
            known, inputs = await self._spill.fetch(known), await self._spill.whole(body.get("inputs", {}))
            right = Right(taken.task, taken.attempt, nonce)
            self._tasks.append(Held(taken, right, body["nodes"], known, inputs, prefix, errors))

    async def _turn(self) -> bool:
        """Do something; False if all that is left is held back."""
        rng = self._rng
        able = [task for task in self._tasks if self._choices(task) or task.again]
        if not able:
            return False
        task = rng.choice(able)
        if rng.random() < 0.05:
            await self._queue.give_back(task.right, "drain", spent=compact(_SPENT))
            self._tasks.remove(task)
        elif self._choices(task):
            await self._commit(task)
        else:
            await self._try_again(task)
        return True

    async def _commit(self, task: Held) -> None:
        rng, ends = self._rng, list[NodeEnd]()
        for _ in range(rng.randint(1, 3)):
            if not (choices := self._choices(task)):
                break
            ends += await self._end(task, rng.choice(choices))
        last = all(id_ in task.known for id_ in task.nodes)
        answer = await self._queue.commit(task.right, ends, last=last)
        if last or answer != "ok":
            self._tasks.remove(task)

    async def _try_again(self, task: Held) -> None:
        failed = {task.prefix + id_: compact({"cause": "error"}) for id_ in task.again}
        delay = max(task.nodes[id_].get("backoff", 1.0) for id_ in task.again)
        await self._queue.give_back(task.right, "error", delay=delay, failed=failed)
        self._tasks.remove(task)

    def _choices(self, task: Held) -> list[str]:
        return [id_ for id_ in task.ready if task.prefix + id_ != self.held]

    async def _end(self, task: Held, id_: str) -> list[NodeEnd]:
        """Run a node: its start and its end, or its start alone if it is to be tried again."""
        path, node = task.prefix + id_, task.nodes[id_]
        start, errors = NodeEnd(path, "", "{}"), task.errors.get(path, 0)
        decision = decide(node, Scope(task.inputs, task.known))
        if isinstance(decision, Skip):
            return [await self._note(task, id_, {"status": "skipped", "reason": decision.reason})]
        if errors < trips_of(node["type"], path):
            if errors + 1 < node.get("max_attempts", 1):
                task.again.add(id_)
                return [start]
            return [start, await self._note(task, id_, _failure(node))]
        self.twice += [path] if self._ends[task.taken.task, path] else []
        self._ends[task.taken.task, path] += 1
        try:
            outcome: Outcome = {"status": "completed", "outputs": compute(node["type"], decision)}
        except PickyError:
            outcome = _failure(node)
        return [start, await self._note(task, id_, outcome)]

    async def _note(self, task: Held, id_: str, outcome: Outcome) -> NodeEnd:
        task.known[id_] = outcome
        rest = {key: value for key, value in outcome.items() if key != "status"}
        if "outputs" in rest:
            rest["outputs"] = await self._spill.store(rest["outputs"])
        return NodeEnd(task.prefix + id_, outcome_text(outcome["status"], **rest), compact(rest))


def _failure(node: Json) -> Outcome:
    if node.get("on_error") == "skip":
        return {"status": "skipped", "reason": "error", "problem": _FAILED}
    return {"status": "failed", "problem": _FAILED}
