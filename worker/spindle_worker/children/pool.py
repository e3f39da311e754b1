"""A worker's children: one for each native slot, forked when first needed, lent to one attempt at a time.

The last one given back is lent first, since it has the warmest models. Loaded models of all children together stay
within one budget: a child asks before it loads, and idle ones are ended to make room. What outgrows its memory is
killed.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from spindle_common.problems import OutOfMemory, Unavailable
from spindle_common.stopping import stop
from spindle_worker import metrics
from spindle_worker.children.child import Child, ChildDied, Exit, Keeper, Streams
from spindle_worker.children.dying import resident_bytes
from spindle_worker.children.forking import Forkserver
from spindle_worker.children.rearing import Rearing

log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0
_MIB = 2**20
_LEAVE_SECONDS = 2.0


@dataclass(frozen=True)
class Limits:
    """How many children a queue may have, and what they may take; `child_memory` 0: any amount."""

    places: Mapping[str, int]
    model_memory: int
    model_queues: frozenset[str]
    child_memory: int = 0


class Children:
    """Raises, lends and ends children; used on one event loop."""

    def __init__(self, rearing: Rearing, limits: Limits) -> None:
        self._limits = limits
        self._forkserver = Forkserver(rearing, self._ended)
        self._places = {queue: asyncio.Semaphore(count) for queue, count in limits.places.items()}
        self._idle: dict[str, list[Child]] = {queue: [] for queue in limits.places}
        self._every: dict[int, Child] = {}
        self._models: dict[int, int] = {}
        self._keeper = Keeper(self._forkserver.kill, self.room)
        self._loops: list[asyncio.Task[None]] = []
        self._burials: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to preload, and have a first child ready; nobody waits for it."""
        self._forkserver.start()
        first = next(iter(self._places))
        self._loops = [asyncio.create_task(work) for work in (self._look(), self._warm_up(first))]

    @property
    def forkserver(self) -> int | None:
        """Process id of the forkserver."""
        return self._forkserver.pid

    @property
    def pids(self) -> list[int]:
        """Process ids of all children."""
        return list(self._every)

    async def _warm_up(self, queue: str) -> None:
        with suppress(ChildDied):
            self.give_back(await self.borrow(queue))

    # Lending -------------------------------------------------------------------------------------------------------

    async def borrow(self, queue: str) -> Child:
        """Lend a child of a queue's slot, an idle one or a new one. Raises ChildDied."""
        await self._places[queue].acquire()
        try:
            while idle := self._idle[queue]:
                child = idle.pop()
                if child.alive:
                    return child
            return await self._raise(queue)
        except BaseException:
            self._places[queue].release()
            raise

    async def _raise(self, queue: str) -> Child:
        memory = self._limits.model_memory if queue in self._limits.model_queues else 0

        def born(pid: int, streams: Streams) -> Child:
            self._every[pid] = Child(pid, queue, streams, self._keeper)
            metrics.children.set(len(self._every))
            return self._every[pid]

        return await self._forkserver.fork({"queue": queue, "model_memory": memory}, born)

    def give_back(self, child: Child) -> None:
        """Take a child back whose attempt is over; one in which a node still runs is killed."""
        if not child.quiet:
            child.kill()
        elif child.alive:
            child.forget()
            self._idle[child.queue].append(child)
        self._places[child.queue].release()

    def _ended(self, pid: int, exit_: Exit) -> None:
        child = self._every.pop(pid, None)
        self._models.pop(pid, None)
        metrics.children.set(len(self._every))
        if child is not None:
            log.debug("child %d %s", pid, exit_)
            child.exit = exit_
            burial = asyncio.create_task(child.bury(exit_))
            self._burials.add(burial)
            burial.add_done_callback(self._burials.discard)

    # Memory --------------------------------------------------------------------------------------------------------

    def room(self, child: Child, held: int) -> bool:
        """Whether a child's models may take so many bytes; idle children with models go first, oldest use first."""
        idle = [one for queue in self._idle.values() for one in queue if self._models.get(one.pid)]
        while held + sum(self._models.values()) - self._models.get(child.pid, 0) > self._limits.model_memory:
            if held <= self._models.get(child.pid, 0):
                break  # letting go is always granted
            if not idle:
                return False
            self._dismiss(idle.pop(0))
        self._models[child.pid] = held
        metrics.models_resident.set(sum(self._models.values()))
        return True

    def _dismiss(self, child: Child) -> None:
        self._idle[child.queue].remove(child)
        self._models.pop(child.pid, None)
        child.kill()

    async def _look(self) -> None:
        """Once a second: what is larger than it may be ends."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for child in list(self._every.values()):
                resident = resident_bytes(child.pid)
                if 0 < self._limits.child_memory < resident:
                    took, most = resident // _MIB, self._limits.child_memory // _MIB
                    child.condemn(OutOfMemory(f"its process took {took} MiB; SPINDLE_CHILD_MEMORY allows {most} MiB"))

    async def close(self) -> None:
        """End all children, those that work too, and the forkserver."""
        await stop(self._loops)
        children = list(self._every.values())
        for child in children:
            if child.quiet:
                child.hang_up()
            else:
                child.kill()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                for child in children:
                    await child.gone()
        await self._forkserver.close()


class Loan:
    """One attempt's use of a child: borrowed at its first native node, its native nodes one after another."""

    def __init__(self, children: Children | None, queue: str) -> None:
        self._children, self._queue = children, queue
        self._child: Child | None = None
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Child]:
        """Wait for the child, which is replaced when it died. Raises ChildDied, Unavailable."""
        async with self._turn:
            yield await self._at_hand()

    async def _at_hand(self) -> Child:
        if self._children is None:
            raise Unavailable("this worker runs no native nodes")
        if self._child is not None:
            await self._child.settled()
            if self._child.alive:
                return self._child
            await self.close()
        self._child = await self._children.borrow(self._queue)
        return self._child

    async def close(self) -> None:
        """Give the child back once no node runs in it any more."""
        child, self._child = self._child, None
        if child is None or self._children is None:
            return
        try:
            await child.settled()
        finally:
            self._children.give_back(child)


__all__ = ["ChildDied", "Children", "Limits", "Loan"]
