"""A crowd of simulated processes around the real script: who goes on next, what the network does to it, who dies.

Every process is a coroutine that stops before each command that it sends to Redis or to the database. The world picks
one, and decides the command's fate: it arrives, its request or its reply is lost (the process sees an error, as the
real client's caller would), it arrives twice, or a copy of it arrives much later. Between two commands a process may
be killed, or stand still until long after its leases. Everything is drawn from one seed; time is the test's own.
"""

import json
import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from protocol.snapshot import DUMP, Snapshot, parse
from spindle_common.queue import SCRIPT, Queue
from spindle_common.scripts import scripts_in
from support.virtual_time import NOW, Clock, settable

LEASE, CONTROL_LEASE = 3.0, 2.0
TRACE = 60
FENCED = {"commit", "give_back", "dispatch", "settle", "finish", "park", "parked", "restore"}
"""Before these a process stands still more often: they are what a zombie must not do."""


class Violation(AssertionError):
    """An invariant did not hold."""


@dataclass(frozen=True)
class Faults:
    """How often, in a hundred commands, what goes wrong; milliseconds that pass for each command."""

    lost_request: float = 2.0
    lost_reply: float = 3.0
    twice: float = 2.0
    late: float = 2.0
    kill: float = 0.8
    stall: float = 1.0
    leap: float = 1.5
    tempo: int = 120


NONE = Faults(0, 0, 0, 0, 0, 0, 0, 200)


@dataclass
class Command:
    """What a process is about to send: a command of the client's, or a look into the database."""

    name: str
    args: tuple[Any, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)

    def __await__(self) -> Generator["Command", Any, Any]:
        return (yield self)

    @property
    def op(self) -> str:
        """The step of the script, or the command's own name."""
        return str(self.args[2]) if self.name == "evalsha" else self.name

    def __str__(self) -> str:
        rest = self.args[3:] if self.name == "evalsha" else self.args
        return f"{self.op}({', '.join(str(each)[:60] for each in rest)})"


class Wire:
    """Stands where a process's Redis client stands; every command waits for the world."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **more: Command(name, args, more)


@dataclass
class Process:
    """One simulated process, and the command before which it stands."""

    name: str
    coroutine: Coroutine[Command, Any, None]
    command: Command
    role: str
    sleeps_until: int = 0


async def load(client: Any, source: str) -> None:
    """Have the server know every step of a file, so that no command is said twice."""
    scripts = scripts_in(source)
    for step in scripts.steps:
        await client.script_load(scripts.of(step).text)


class World:
    """Processes, the server, the database, the clock; `look` sees every command that took effect."""

    def __init__(
        self, client: Any, seed: int, look: Callable[[Command, Any, Snapshot], None], script: str = SCRIPT
    ) -> None:
        self.client, self.seed, self.look = client, seed, look
        self.rng = random.Random(seed)
        self.clock = Clock(client)
        self.script = settable(script)
        self.faults = Faults()
        self.processes: list[Process] = []
        self.late: list[Command] = []
        self.trace: deque[str] = deque(maxlen=TRACE)
        self.steps, self.born = 0, 0

    async def begin(self) -> None:
        """Empty the server and set the clock."""
        await self.client.flushall()
        await self.clock.advance(0)
        await load(self.client, self.script)

    def queue(self, script: str | None = None) -> Queue:
        """A process's own protocol client."""
        wire: Any = Wire()
        return Queue(wire, script or self.script)

    def spawn(self, role: str, body: Callable[[str, random.Random], Coroutine[Command, Any, None]]) -> None:
        """Start a process under a name that none had before."""
        self.born += 1
        name = f"{role[0]}{self.born}"
        coroutine = body(name, random.Random(f"{self.seed}/{name}"))
        self.trace.append(f"        {name} starts")
        self.processes.append(Process(name, coroutine, coroutine.send(None), role))

    def alive(self, role: str) -> list[Process]:
        """Processes of a kind, sleeping ones included."""
        return [each for each in self.processes if each.role == role]

    async def send(self, command: Command) -> Any:
        """Send a command of nobody's."""
        return await self._effect("world", command)

    # One step ------------------------------------------------------------------------------------------------------

    async def step(self) -> None:
        """Let one process send its command, or let something happen."""
        self.steps += 1
        self.clock.ms += self.rng.randrange(self.faults.tempo)
        if self._chance(self.faults.leap):
            self.clock.ms += self.rng.choice((1000, 2500, 4000, 9000))
        if self.late and self._chance(10):
            await self._effect("late", self.late.pop(self.rng.randrange(len(self.late))))
            return
        awake = [each for each in self.processes if each.sleeps_until <= self.clock.ms]
        if not awake:
            self.clock.ms += 500
            return
        process = self.rng.choice(awake)
        if self._chance(self.faults.kill):
            self.kill(process)
        elif self._chance(self.faults.stall * (10 if process.command.op in FENCED else 1)):
            process.sleeps_until = self.clock.ms + self.rng.choice((1500, 4000, 6000, 12000))
            self.trace.append(f"        {process.name} stands still before {process.command}")
        else:
            await self._send(process)

    def _chance(self, percent: float) -> bool:
        return percent > 0 and self.rng.random() * 100 < percent

    def kill(self, process: Process) -> None:
        """End a process where it stands."""
        self.trace.append(f"        {process.name} dies before {process.command}")
        self.processes.remove(process)
        process.coroutine.close()

    async def _send(self, process: Process) -> None:
        command = process.command
        if self._chance(self.faults.lost_request):
            self.trace.append(f"        {process.name}: request lost: {command}")
            self._go_on(process, None, RedisConnectionError("request lost"))
            return
        reply = await self._effect(process.name, command)
        if self._chance(self.faults.twice):
            reply = await self._effect(f"{process.name} again", command)
        if self._chance(self.faults.late):
            self.late.append(command)
        lost = RedisConnectionError("reply lost") if self._chance(self.faults.lost_reply) else None
        if lost:
            self.trace.append(f"        {process.name}: reply lost")
        self._go_on(process, reply, lost)

    async def _effect(self, who: str, command: Command) -> Any:
        """Let a command arrive, and look at what it did; the clock, the command and the look go out together."""
        if command.name == "db":
            reply, dump = command.args[0](*command.args[1:]), None
        else:
            pipe = self.client.pipeline(transaction=False)
            pipe.set(NOW, self.clock.ms)
            getattr(pipe, command.name)(*command.args, **command.more)
            pipe.eval(DUMP, 0)
            _, reply, dump = await pipe.execute()
        shown = json.dumps(reply, default=str)
        self.trace.append(f"{self.steps:>5} {self.clock.ms % 10_000_000:>7} {who}: {command} -> {shown[:120]}")
        if dump is not None:
            self.look(command, reply, parse(dump))
        return reply

    def _go_on(self, process: Process, reply: Any, error: Exception | None) -> None:
        try:
            throw, send = process.coroutine.throw, process.coroutine.send
            process.command = throw(error) if error else send(reply)
        except StopIteration:
            self.trace.append(f"        {process.name} ends")
            self.processes.remove(process)
