"""What chaos found once, told again by single steps of the protocol."""

import asyncio

from spindle_common.problems import Crashed, TimedOut
from spindle_common.queue import Queue

LEASE = 30.0


async def test_a_worker_that_was_forgotten_is_told_so(queue: Queue) -> None:
    """Its take after the silence made its hash again: every beat said that it was known, and it never came back."""
    await queue.register("w1", 0.02, "{}", {"async": 2})
    await asyncio.sleep(0.05)
    await queue.sweep(Crashed().problem(), TimedOut().problem())
    assert await queue.take("w1", "nonce", LEASE, {"async": 1}) == []
    known, lost = await queue.beat("w1", LEASE, LEASE, [])
    assert (known, lost) == (False, [])
