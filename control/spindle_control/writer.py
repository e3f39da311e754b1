"""Group commit: the writes of concurrent callers share one transaction.

    caller: await writer.write(operation)      operation(connection) -> result, plain SQL on a synchronous connection
    writer: take all that wait -> BEGIN -> every operation in order -> COMMIT -> hand out the results

While one transaction runs, the next group gathers; a lone caller waits for nobody. When an operation of a group fails,
the group is rolled back and each is done again in a transaction of its own, so that one failure spoils nothing else:
operations must therefore have no effect but on the connection. A caller that is cancelled while its operation waits
does not undo it.
"""

import asyncio
import contextlib
from collections import deque
from typing import Any, NamedTuple, TypeVar

from sqlalchemy.exc import IntegrityError

from spindle_common.problems import Unavailable
from spindle_control.database import Database, Operation, foreign

T = TypeVar("T")

GROUP = 200


class _Waiting(NamedTuple):
    operation: Operation[Any]
    result: asyncio.Future[Any]


class Writer:
    """The one coroutine that writes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._task = asyncio.create_task(self._loop(), name="database-writer")

    async def write(self, operation: Operation[T]) -> T:
        """Do an operation in the next transaction; its result, or what it raised."""
        if self._closing:
            raise Unavailable("The control is stopping.", retry_after=1)
        waiting = _Waiting(operation, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._wake.set()
        result: T = await waiting.result
        return result

    async def close(self) -> None:
        """Finish what waits, then stop."""
        self._closing = True
        self._wake.set()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _loop(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._wake.clear()
                await self._wake.wait()
                continue
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), GROUP))]
            await self._commit(group)

    async def _commit(self, group: list[_Waiting]) -> None:
        try:
            results = await self._database.transaction([each.operation for each in group])
        except Exception as error:
            if len(group) > 1:
                for each in group:
                    await self._commit([each])
                return
            await self._alone(group[0], error)
            return
        for each, result in zip(group, results, strict=True):
            if not each.result.done():
                each.result.set_result(result)

    async def _alone(self, each: _Waiting, error: Exception) -> None:
        """Try once more what lost a race for a unique key; otherwise tell the caller."""
        if isinstance(error, IntegrityError):
            try:
                (result,) = await self._database.transaction([each.operation])
            except Exception as again:
                error = again
            else:
                if not each.result.done():
                    each.result.set_result(result)
                return
        if not each.result.done():
            each.result.set_exception(foreign(error))
