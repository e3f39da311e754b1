"""Ending coroutines for certain.

One `cancel` is not enough: `asyncio.wait_for` of Python 3.11, through which redis-py sends, returns its result instead
of raising when the cancellation arrives as it completes (CPython issue 86296), and the loop around it goes on.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

_AGAIN_SECONDS = 1.0  # not sooner: a cancellation amid redis-py's own tidying would leave a connection open


async def stop(tasks: "Iterable[asyncio.Future[Any]]") -> None:
    """Cancel tasks until every one has ended; what they raise is dropped."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        done, pending = await asyncio.wait(pending, timeout=_AGAIN_SECONDS)
        for task in done:
            if not task.cancelled():
                task.exception()
