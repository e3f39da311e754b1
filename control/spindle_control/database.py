"""One way to reach the database: a transaction of operations, or one query.

    SQLite      SQLAlchemy's synchronous engine on threads of its own: one hop for a whole group of writes.
                (aiosqlite hops to its thread for every cursor, statement and fetch: a lone write took 2.0 ms
                instead of 0.5, a grouped one 0.36 ms of CPU instead of 0.09.)
    PostgreSQL  SQLAlchemy's asynchronous engine.

What drivers raise is mapped here: away or busy is `Unavailable`, the rest stays.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from spindle_common.problems import Unavailable
from spindle_control import migrations

T = TypeVar("T")
Operation = Callable[[sa.Connection], T]
Values = dict[str, Any]
Rows = Sequence[sa.Row[Any]]

_BUSY_MS = 10_000
_READERS = 4


class Database(Protocol):
    """Somewhere to keep rows."""

    async def transaction(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        """Run operations in one transaction; their results, or what the first failing one raised, nothing kept."""

    async def read(self, query: sa.Select[Any], values: Values) -> Rows:
        """Return every row of a query."""

    async def close(self) -> None:
        """Disconnect."""


def open_database(url: str) -> Database:
    """Choose the way by the URL; nothing is connected yet."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _Threaded(parsed.set(drivername="sqlite"))
    return _Asynchronous(parsed)


async def migrate(database: Database) -> None:
    """Upgrade the schema; a neighbour's switch to WAL at the same time locks the file without SQLite's waiting."""
    for attempt in range(50):
        try:
            await database.transaction([migrations.upgrade])
        except OperationalError as error:
            if "locked" not in str(error) or attempt == 49:
                raise
            await asyncio.sleep(0.1)
        else:
            return


def foreign(error: Exception) -> Exception:
    """Map what a driver raised."""
    gone = isinstance(error, DBAPIError) and not isinstance(error, IntegrityError)
    if gone or isinstance(error, OSError | PoolTimeout):
        return Unavailable("The database does not answer.", retry_after=1)
    return error


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _run(connection: sa.Connection, operations: Sequence[Operation[Any]]) -> list[Any]:
    return [operation(connection) for operation in operations]


class _Threaded:
    """SQLite: one thread writes, a few read."""

    def __init__(self, url: sa.URL) -> None:
        self._writing = _sqlite_engine(url, pool_size=1, max_overflow=0)
        sa.event.listen(self._writing, "begin", _begin_immediate)
        self._reading = _sqlite_engine(url, pool_size=_READERS, isolation_level="AUTOCOMMIT")
        self._writer = ThreadPoolExecutor(1, "database-writer")
        self._readers = ThreadPoolExecutor(_READERS, "database-reader")

    async def transaction(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._transaction, operations)

    def _transaction(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        with self._writing.begin() as connection:
            return _run(connection, operations)

    async def read(self, query: sa.Select[Any], values: Values) -> Rows:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query, values)

    def _read(self, query: sa.Select[Any], values: Values) -> Rows:
        try:
            with self._reading.connect() as connection:
                return connection.execute(query, values).all()
        except Exception as error:
            raise foreign(error) from error

    async def close(self) -> None:
        for threads in (self._writer, self._readers):
            await asyncio.to_thread(threads.shutdown)
        self._writing.dispose()
        self._reading.dispose()


class _Asynchronous:
    """PostgreSQL (asyncpg)."""

    def __init__(self, url: sa.URL) -> None:
        from sqlalchemy.ext.asyncio import create_async_engine

        self._engine = create_async_engine(url, json_serializer=_dump, pool_pre_ping=True, pool_timeout=10)
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    async def transaction(self, operations: Sequence[Operation[Any]]) -> list[Any]:
        async with self._engine.begin() as connection:
            return await connection.run_sync(_run, operations)

    async def read(self, query: sa.Select[Any], values: Values) -> Rows:
        try:
            async with self._reading.connect() as connection:
                rows: Rows = (await connection.execute(query, values)).all()
                return rows
        except Exception as error:
            raise foreign(error) from error

    async def close(self) -> None:
        await self._engine.dispose()


def _sqlite_engine(url: sa.URL, **options: Any) -> sa.Engine:
    engine = sa.create_engine(url, json_serializer=_dump, **options)
    sa.event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={_BUSY_MS}", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: sa.Connection) -> None:
    """Take the write lock first: a transaction that reads, then writes, would fail where a neighbour wrote between."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")
