"""What the database lets go of after a time, and which of its texts may name bytes.

Everything goes page by page in the order of ids, in short transactions: submissions wait behind none of it for long.
"""

from collections.abc import AsyncIterator, Sequence

import sqlalchemy as sa

from spindle_control.store import Store
from spindle_control.tables import ENDED, OPEN, run_events, runs, tickets, workflow_versions

PAGE = 200
_TEXTS_PAGE = 50
_TEXTS = [sa.cast(runs.c[name], sa.Text) for name in ("workflow", "inputs", "outputs", "nodes", "problem", "parked")]


def ended_before(time: int) -> sa.ColumnElement[bool]:
    """Runs that ended before that time (milliseconds since 1970)."""
    return runs.c.status.in_(ENDED) & (runs.c.ended_at < time)


def changed_since(time: int) -> sa.ColumnElement[bool]:
    """Runs that have not ended, or not before that time."""
    return runs.c.status.in_(OPEN) | (runs.c.ended_at >= time)


def spent_key(time: int) -> sa.ColumnElement[bool]:
    """Runs that still hold an idempotency key used before that time."""
    return runs.c.idempotency_key.is_not(None) & (runs.c.created_at < time)


class Retention:
    """Finds, forgets, and tells what is kept. Everything raises Unavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def pages(self, which: sa.ColumnElement[bool]) -> AsyncIterator[list[str]]:
        """Yield ids of runs, a page at a time; a page may be forgotten before the next is asked for."""
        after = ""
        while True:
            query = sa.select(runs.c.id).where(runs.c.id > after, which).order_by(runs.c.id).limit(PAGE)
            found = [str(row.id) for row in await self._store.read(query)]
            if found:
                yield found
            if len(found) < PAGE:
                return
            after = found[-1]

    async def forget_runs(self, ids: Sequence[str]) -> int:
        """Delete ended runs with their events; returns how many went."""

        def operation(connection: sa.Connection) -> int:
            connection.execute(sa.delete(run_events).where(run_events.c.run.in_(ids)))
            return connection.execute(sa.delete(runs).where(runs.c.id.in_(ids), runs.c.status.in_(ENDED))).rowcount

        return await self._store.write(operation)

    async def forget_keys(self, ids: Sequence[str]) -> None:
        """Free the idempotency keys of runs for other requests."""
        statement = sa.update(runs).where(runs.c.id.in_(ids)).values(idempotency_key=None, request_digest=None)
        await self._store.write(lambda connection: connection.execute(statement).rowcount)

    async def tickets(self, now: int) -> int:
        """How many tickets have expired."""
        query = sa.select(sa.func.count()).select_from(tickets).where(tickets.c.expires_at <= now)
        return int((await self._store.read(query))[0][0])

    async def forget_tickets(self, now: int) -> None:
        """Delete expired tickets."""
        statement = sa.delete(tickets).where(tickets.c.expires_at <= now)
        await self._store.write(lambda connection: connection.execute(statement).rowcount)

    async def texts(self, which: sa.ColumnElement[bool]) -> AsyncIterator[str]:
        """Yield every text of these runs and of their events that may name bytes."""
        async for text in self._of_rows(which):
            yield text
        async for text in self._of_events(which):
            yield text

    async def documents(self, since: int = 0) -> AsyncIterator[str]:
        """Yield every stored workflow's document, or those that were stored after a time; none is ever forgotten."""
        key = (workflow_versions.c.tenant, workflow_versions.c.name, workflow_versions.c.version)
        text = sa.cast(workflow_versions.c.document, sa.Text).label("text")
        query = sa.select(*key, text).where(workflow_versions.c.created_at >= since)
        after = ("", "", 0)
        while True:
            behind = sa.tuple_(*key) > sa.tuple_(*map(sa.literal, after))
            found = await self._store.read(query.where(behind).order_by(*key).limit(_TEXTS_PAGE))
            for row in found:
                yield row.text
            if len(found) < _TEXTS_PAGE:
                return
            after = (found[-1].tenant, found[-1].name, found[-1].version)

    async def _of_rows(self, which: sa.ColumnElement[bool]) -> AsyncIterator[str]:
        after = ""
        while True:
            query = sa.select(runs.c.id, *_TEXTS).where(runs.c.id > after, which)
            found = await self._store.read(query.order_by(runs.c.id).limit(_TEXTS_PAGE))
            for row in found:
                for text in tuple(row)[1:]:
                    if text:
                        yield text
            if len(found) < _TEXTS_PAGE:
                return
            after = found[-1].id

    async def _of_events(self, which: sa.ColumnElement[bool]) -> AsyncIterator[str]:
        place = sa.tuple_(run_events.c.run, run_events.c.chunk)
        of_these = run_events.c.run.in_(sa.select(runs.c.id).where(which))
        run, chunk = "", -1
        while True:
            behind = place > sa.tuple_(sa.literal(run), sa.literal(chunk))
            query = sa.select(run_events.c.run, run_events.c.chunk, sa.cast(run_events.c.events, sa.Text).label("text"))
            query = query.where(behind, of_these).order_by(run_events.c.run, run_events.c.chunk).limit(_TEXTS_PAGE)
            found = await self._store.read(query)
            for row in found:
                yield row.text
            if len(found) < _TEXTS_PAGE:
                return
            run, chunk = found[-1].run, found[-1].chunk
