"""Blocking calls of a store: a few threads of its own, so that a slow disk or server holds up nothing else."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """A bounded pool of threads."""

    def __init__(self, name: str, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function in a thread; if the caller is cancelled, the thread runs on alone."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(function, *args, **kwargs))

    async def finish(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run the function in a thread and wait for its end even when cancelled.

        For short local work on things that the caller cleans up afterwards: not from under the thread's feet.
        """
        work = asyncio.ensure_future(self.call(function, *args, **kwargs))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            if not work.cancelled():
                work.exception()  # seen, so that the loop does not report it as forgotten
            raise

    def close(self) -> None:
        """Take no more calls; those in flight end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)
