"""One simulation: a crowd with faults for so many commands, then peace, in which everything must come to its end."""

import random
from collections import deque
from typing import Any

from protocol.controls import Control
from protocol.database import ENDED, TENANTS, Database, Row, random_tasks
from protocol.invariants import Checker
from protocol.workers import Worker
from protocol.world import NONE, Command, Faults, Process, Violation, World
from spindle_common import keys
from spindle_common.queue import SCRIPT

RUNS = 4
PEACE = 6000


class Crowd:
    """Keeps a few workers and controls alive, and people asking."""

    def __init__(self, client: Any, seed: int, *, script: str = SCRIPT, old: str | None = None) -> None:
        self.db = Database()
        self.checker = Checker(self.db, mixed=old is not None)
        self.world = World(client, seed, self.checker.after, script)
        self.checker.clock = lambda: self.world.clock.ms
        self._old = old
        self._requests: deque[tuple[str, Row]] = deque()
        self._asked = 0
        self._bodies: dict[str, Worker | Control] = {}

    async def run(self, commands: int, faults: Faults | None = None) -> None:
        """Simulate; raises Violation with the seed and what happened last."""
        try:
            await self.world.begin()
            await self._storm(commands, faults or Faults())
            await self._peace()
            await self._end()
        except Violation as violation:
            happened = "\n".join(self.world.trace)
            raise Violation(f"seed {self.world.seed}: {violation}\n{happened}") from None
        finally:
            for process in self.world.processes:
                process.coroutine.close()

    async def _storm(self, commands: int, faults: Faults) -> None:
        self.world.faults = faults
        while self.world.steps < commands:
            self._people()
            self._populate(self.world.rng.randint(1, 3), self.world.rng.randint(1, 2))
            await self.world.step()

    def _populate(self, workers: int, controls: int) -> None:
        if len(self._living("worker")) < workers and self.world.rng.random() < 0.2:
            self.world.spawn("worker", self._worker)
        if len(self._living("control")) < controls and self.world.rng.random() < 0.2:
            self.world.spawn("control", self._control)
        if self.world.processes and self.world.rng.random() < 0.002:
            self._stop(self.world.rng.choice(self.world.processes))

    def _living(self, role: str) -> list[Process]:
        return [each for each in self.world.alive(role) if not self._bodies[each.name].stopping]

    def _stop(self, process: Process) -> None:
        self._bodies[process.name].stopping = True

    def _worker(self, name: str, rng: random.Random) -> Any:
        script = self._old if self._old and rng.random() < 0.7 else None
        body = self._bodies[name] = Worker(self.world, name, rng, script)
        return body.run()

    def _control(self, name: str, rng: random.Random) -> Any:
        body = self._bodies[name] = Control(self.world, self.db, self._requests, name, rng)
        return body.run()

    def _people(self) -> None:
        rng = self.world.rng
        if self._asked < RUNS and rng.random() < 0.05:
            self._asked += 1
            row = Row("", rng.choice(list(TENANTS)), rng.choice((0, 0, 5)), random_tasks(rng))
            self._requests.append(("submit", row))
        elif self.db.rows and rng.random() < 0.02:
            kind = rng.choice(("pause", "pause", "resume", "cancel"))
            if kind != "cancel" or rng.random() < 0.3:
                row = rng.choice(list(self.db.rows.values()))
                self._requests.extend([(kind, row)] * (2 if kind == "cancel" else 1))  # impatient, they press twice

    # Peace ---------------------------------------------------------------------------------------------------------

    async def _peace(self) -> None:
        """Without faults every run ends (I6), once the upgrade is over: old workers leave some tasks alone."""
        self.world.faults = NONE
        for process in self._living("worker"):
            body = self._bodies[process.name]
            body.stopping = isinstance(body, Worker) and body.old
        self._old = None
        for _ in range(PEACE):
            self._populate(2, 1)
            asked = any(kind == "submit" for kind, _ in self._requests)
            if not asked and all(row.status in ENDED for row in self.db.rows.values()):
                return
            if self.world.rng.random() < 0.01:
                self._requests.extend(("resume", row) for row in self.db.rows.values() if row.status not in ENDED)
            await self.world.step()
        left = {run: row.status for run, row in self.db.rows.items() if row.status not in ENDED}
        raise Violation(f"I6: runs that never end: {left}; requests {[kind for kind, _ in self._requests]}")

    async def _end(self) -> None:
        """Everyone leaves; the last control looks around once more."""
        self.world.late.clear()
        for process in list(self.world.processes):
            process.sleeps_until = 0
            self._stop(process)
        await self._until_empty()
        self.world.clock.ms += 60_000
        self.world.spawn("control", self._control)
        for _ in range(100):
            await self.world.step()
        self._stop(self.world.processes[0])
        await self._until_empty()
        await self.world.send(Command("delete", (keys.CONTROLS,)))
        self.checker.at_rest()

    async def _until_empty(self) -> None:
        for _ in range(PEACE):
            if not self.world.processes:
                return
            await self.world.step()
        raise Violation(f"I6: processes that never end: {[each.name for each in self.world.processes]}")
