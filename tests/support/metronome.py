"""How long the machine itself stood still: a thread that wants to wake every 20 ms, and notes when it woke late.

A shared virtual machine may get no processor for seconds. What a test of real time then finds says nothing of Spindle:
bounds leave out what the metronome missed, and a test that failed meanwhile is run again (tests/conftest.py).
"""

import threading
import time
from collections import deque

BEAT = 0.02
STANDSTILL = 1.0
"""Seconds lost during a test from which on its failure may be the machine's."""


class Metronome:
    """Keeps the standstills of the last half hour or so."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque(maxlen=100_000)
        self._began = time.time()
        threading.Thread(target=self._beat, name="metronome", daemon=True).start()

    def _beat(self) -> None:
        due = time.monotonic() + BEAT
        while True:
            time.sleep(max(0.0, due - time.monotonic()))
            late = time.monotonic() - due
            if late > BEAT:
                self._late.append((time.time(), late))
            due = time.monotonic() + BEAT

    def lost(self, since: float, until: float | None = None) -> float:
        """Return the seconds lost between two moments of `time.time()`, the second by default now."""
        end = time.time() if until is None else until
        return sum(max(0.0, min(at, end) - max(at - late, since)) for at, late in list(self._late))

    def begin(self) -> None:
        """A test begins, or is tried again."""
        self._began = time.time()

    def stood_still(self) -> bool:
        """Whether the machine stood still since the test began."""
        return self.lost(self._began) >= STANDSTILL


METRONOME = Metronome()
