"""The nemesis: draws faults from a seed and lets them happen, up to two at a time; in the end it mends everything."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterable

from chaos.arena import Arena
from chaos.faults import FAULTS, Fault
from chaos.history import History

_AT_ONCE = 2


class Nemesis:
    """Breaks things in a seeded order, each noted in the history when it begins and when it was mended."""

    def __init__(self, arena: Arena, history: History, seed: int, *, without: Iterable[str] = ()) -> None:
        self._arena, self._history = arena, history
        self._rng = random.Random(f"nemesis {seed}")
        possible = [fault for fault in FAULTS.values() if not fault.uses & arena.lacks]
        self._faults = [fault for fault in possible if fault.name not in set(without)]
        self._under_way: dict[asyncio.Task[None], Fault] = {}
        self.counts: Counter[str] = Counter()

    async def run(self, seconds: float) -> None:
        """Break things for so long, then wait until the last fault is mended."""
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            while (left := deadline - asyncio.get_running_loop().time()) > 0:
                await asyncio.sleep(min(left, self._rng.uniform(0.3, 2.5)))
                self._strike()
        finally:
            if self._under_way:
                await asyncio.gather(*self._under_way)
            self._arena.heal()

    def _strike(self) -> None:
        fault = self._draw()
        taken = frozenset[str]().union(*(other.uses for other in self._under_way.values()))
        if len(self._under_way) >= _AT_ONCE or fault.uses & taken:
            return
        task = asyncio.create_task(self._happen(fault))
        self._under_way[task] = fault
        task.add_done_callback(self._under_way.pop)

    def _draw(self) -> Fault:
        (fault,) = self._rng.choices(self._faults, [fault.weight for fault in self._faults])
        return fault

    async def _happen(self, fault: Fault) -> None:
        self.counts[fault.name] += 1
        self._history.note("break", fault=fault.name)
        await fault.work(self._arena, self._rng)
        self._history.note("mended", fault=fault.name)
