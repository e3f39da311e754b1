"""Ending coroutines for certain.

One `cancel` is not enough: `asyncio.wait_for` of Python 3.11, through which redis-py sends, returns its result instead
of raising when the cancellation arrives as it completes (CPython issue 86296), and the loop around it goes on.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

_AGAIN_SECONDS = 1.0  # not sooner: a cancellation amid redis-py's own tidying would leave a connection open


async def stop(tasks: "Iterable[asyncio.Future[Any]]") -> None:
    """Cancel tasks until every one has ended; what they raise is dropped.

    Whoever is stopped while stopping others goes on until they have ended: else what they hold would stay behind.
    """
    pending = {task for task in tasks if not task.done()}
    stopped: asyncio.CancelledError | None = None
    while pending:
        for task in pending:
            task.cancel()
        try:
            done, pending = await asyncio.wait(pending, timeout=_AGAIN_SECONDS)
        except asyncio.CancelledError as error:
            stopped = error
            done = {task for task in pending if task.done()}
            pending -= done
        for task in done:
            if not task.cancelled():
                task.exception()
    if stopped is not None:
        raise stopped
