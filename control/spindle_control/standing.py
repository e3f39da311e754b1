"""What stands still although it should move: the pure decisions behind `/readyz`, each said in words.

Only what can be known surely counts. A queue is stuck when tasks have waited for long, slots of live workers have been
free all that time, and nothing was taken: a busy queue, or one without workers, is not. A run is stalled when it is
running, none of its tasks is under way, and telling its driver so once more did not help.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from spindle_common.connection import BLOCK_MS
from spindle_common.problems import Unavailable
from spindle_common.queue import QueueState
from spindle_control.settings import ControlSettings

if TYPE_CHECKING:
    from spindle_control.driver import Driver
    from spindle_control.registry import Registry

_LEAST_WAKE_SECONDS = 2 * BLOCK_MS / 1000
_LEAST_ROUND_SECONDS = 15.0  # the reconciler's rounds are five seconds apart


@dataclass(frozen=True)
class Limits:
    """Seconds for which something may stand still."""

    beat: float
    stuck: float

    @classmethod
    def of(cls, settings: ControlSettings) -> "Limits":
        """Read them from the settings."""
        return cls(3 * settings.control_lease_seconds, settings.stuck_seconds)


class _Since(NamedTuple):
    last: str
    began: float
    waited: float


class QueueWatch:
    """Remembers since when a queue's tasks wait beside free slots with nothing taken."""

    def __init__(self) -> None:
        self._since: dict[str, _Since] = {}

    def look(self, queue: str, state: QueueState, *, free: bool, now: float | None = None) -> None:
        """Take in a measurement; `free`: something waits, and a live worker has a free slot for it."""
        now = time.monotonic() if now is None else now
        before = self._since.get(queue)
        if not free:
            self._since.pop(queue, None)
        elif before is None or before.last != state.last:
            self._since[queue] = _Since(state.last, now, 0.0)
        else:
            self._since[queue] = before._replace(waited=min(now - before.began, state.oldest))

    @property
    def stuck(self) -> Mapping[str, float]:
        """Queue -> seconds."""
        return {queue: since.waited for queue, since in self._since.items()}


def check_driver(driver: "Driver", limits: Limits) -> None:
    """Raise Unavailable when runs of this control do not go on."""
    patience = {"beat": limits.beat, "wake": max(limits.stuck, _LEAST_WAKE_SECONDS)}
    for name, age in driver.silences.items():
        if name != "reconcile" and age > patience.get(name, limits.stuck):
            raise Unavailable(f"The driver's loop `{name}` has stood still for {age:.0f} s.")
    if driver.reconciler.lag > max(limits.stuck, _LEAST_WAKE_SECONDS):
        raise Unavailable(f"The driver has not read a commit that came {driver.reconciler.lag:.0f} s ago.")
    stalled = {run: age for run, age in driver.reconciler.stalled.items() if age > limits.stuck}
    if stalled:
        run, age = max(stalled.items(), key=lambda item: item[1])
        raise Unavailable(f"{len(stalled)} runs have nothing under way and do not go on, {run} for {age:.0f} s.")


def check_reconciler(driver: "Driver", limits: Limits) -> None:
    """Raise Unavailable when what falls between two steps is no longer looked for."""
    age = driver.silences.get("reconcile", 0.0)
    if age > max(limits.stuck, _LEAST_ROUND_SECONDS):
        raise Unavailable(f"The reconciler last finished {age:.0f} s ago.")


def check_queues(queues: "Registry", limits: Limits) -> None:
    """Raise Unavailable when a queue's tasks wait although live workers have slots for them."""
    if queues.silence > max(limits.stuck, _LEAST_ROUND_SECONDS):
        raise Unavailable(f"The queues were last looked at {queues.silence:.0f} s ago.")
    stuck = sorted((queue, age) for queue, age in queues.stuck.items() if age > limits.stuck)
    if stuck:
        told = ", ".join(f"{queue} for {age:.0f} s" for queue, age in stuck)
        raise Unavailable(f"Tasks wait although live workers have free slots for them, and none is taken: {told}.")
