"""The database: the truth about what was accepted, what is paused, how things ended, and which node types exist.

    insert_run -> take_over(owner, epoch) -> end_run(epoch)        whoever takes a run raises its epoch;
                                                                   a lower epoch's writes change nothing

SQLite by default (WAL; writes begin with BEGIN IMMEDIATE, so that several processes queue for the lock instead of
failing), PostgreSQL by URL. All writes go through one group-committing writer, reads are single queries.
Errors: `NotFound`, `Conflict`, `InvalidRequest` for cursors, `Unavailable` when the database does not answer.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeVar

import sqlalchemy as sa

from spindle_common.problems import Conflict, InvalidRequest, NotFound
from spindle_control.database import Database, Operation, Rows, foreign, migrate, open_database
from spindle_control.rows import FULL, LIGHT, Json, RunRow, full, light, to_values
from spindle_control.tables import ENDED, OPEN, cursor, node_types, run_events, runs, tickets
from spindle_control.type_rows import save_types
from spindle_control.writer import Writer

__all__ = ["ANY", "ENDED", "OPEN", "IdempotencyMismatch", "OpenRun", "RunRow", "Store"]

T = TypeVar("T")
ANY: Final = "*"
CHUNK = 500  # events in one archived chunk
_REMEMBERED = 10_000

# Statements are built once: building one costs more than running it.
_bind = sa.bindparam
_insert_run = sa.insert(runs)
_insert_chunk = sa.insert(run_events)
_one_run = sa.select(*FULL).where(runs.c.id == _bind("run"))
_same_key = sa.select(*FULL, runs.c.request_digest).where(
    runs.c.tenant == _bind("tenant"), runs.c.idempotency_key == _bind("key")
)
_open_page = (
    sa.select(runs.c.id, runs.c.status, runs.c.owner, runs.c.epoch)
    .where(runs.c.status.in_(OPEN), runs.c.id > _bind("after"))
    .order_by(runs.c.id)
    .limit(_bind("most", type_=sa.Integer))
)
_take_over = (
    sa.update(runs)
    .where(runs.c.id == _bind("run"), runs.c.epoch < _bind("higher"), runs.c.status.in_(_bind("since", expanding=True)))
    .values(
        owner=_bind("by"),
        epoch=_bind("higher"),
        status="running",
        started_at=sa.func.coalesce(runs.c.started_at, _bind("now", type_=sa.BigInteger)),
    )
)
_end_run = (
    sa.update(runs)
    .where(runs.c.id == _bind("run"), runs.c.status.in_(OPEN), runs.c.epoch <= _bind("highest"))
    .values({name: _bind(f"new_{name}") for name in ("status", "ended_at", "outputs", "problem", "nodes")})
)
_park_run = (
    sa.update(runs)
    .where(runs.c.id == _bind("run"), runs.c.status.in_(OPEN), runs.c.epoch == _bind("epoch_held"))
    .values(status="paused", nodes=_bind("new_nodes"), parked=_bind("new_parked"), wake_at=_bind("new_wake_at"))
)
_resumed = (
    sa.update(runs)
    .where(runs.c.id == _bind("run"), runs.c.epoch == _bind("epoch_held"))
    .values(parked=None, wake_at=None)
)
_due = (
    sa.select(runs.c.id)
    .where(runs.c.status == "paused", runs.c.wake_at <= _bind("now", type_=sa.BigInteger))
    .order_by(runs.c.wake_at)
    .limit(_bind("most", type_=sa.Integer))
)
_last_chunk = (
    sa.select(run_events.c.chunk, run_events.c.last_ms, run_events.c.last_seq)
    .where(run_events.c.run == _bind("run"))
    .order_by(run_events.c.chunk.desc())
    .limit(1)
)
_chunks_of = sa.select(run_events.c.chunk, run_events.c.events).where(run_events.c.run == _bind("run"))
_next_chunk = (
    _chunks_of.where(
        sa.tuple_(run_events.c.last_ms, run_events.c.last_seq)
        > sa.tuple_(_bind("ms", type_=sa.BigInteger), _bind("seq", type_=sa.BigInteger)),
        run_events.c.chunk > _bind("behind"),
    )
    .order_by(run_events.c.chunk)
    .limit(1)
)
_any_chunk = _chunks_of.limit(1)
_insert_ticket = sa.insert(tickets)
_one_ticket = sa.select(tickets.c.tenant).where(tickets.c.hash == _bind("hash"), tickets.c.expires_at > _bind("now"))
_delete_ticket = sa.delete(tickets).where(tickets.c.hash == _bind("used"))
_expired_tickets = sa.delete(tickets).where(tickets.c.expires_at <= _bind("now"))
_any_epoch = 2**63 - 1


class OpenRun(NamedTuple):
    """What the reconciler needs of a run that has not ended."""

    id: str
    status: str
    owner: str | None
    epoch: int


class IdempotencyMismatch(Conflict):
    """The same Idempotency-Key came with another request."""

    code, title = "idempotency-mismatch", "This Idempotency-Key was used for another request"


class Store:
    """Runs, their archives and node types, in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = Writer(database)
        self._tenants: OrderedDict[str, str] = OrderedDict()  # whose a run is never changes

    @classmethod
    async def open(cls, url: str) -> "Store":
        """Connect, bring the schema up to date, start the writer; `Unavailable` when the database is away."""
        database = open_database(url)
        try:
            await migrate(database)
        except Exception as error:
            await database.close()
            raise foreign(error) from error
        return cls(database)

    async def close(self) -> None:
        """Finish waiting writes, then disconnect."""
        await self._writer.close()
        await self._database.close()

    async def check(self) -> None:
        """Raise `Unavailable` unless the database answers."""
        await self.read(sa.select(sa.literal(1)))

    # ---- runs

    async def insert_run(self, row: RunRow, idempotency: tuple[str, str] | None = None) -> RunRow:
        """Accept a run.

        `idempotency` is (key, digest of the request): where the tenant used the key before for the same request, the
        run accepted then is returned (its id differs from the given one); for another it is `IdempotencyMismatch`.
        """
        if idempotency is None:
            values = to_values(row)
            await self._writer.write(lambda connection: _execute(connection, _insert_run, values))
            return self._remember(row)
        key, digest = idempotency
        values = to_values(row) | {"idempotency_key": key, "request_digest": digest}
        before = await self._writer.write(lambda connection: _insert_once(connection, values))
        if before is None:
            return self._remember(row)
        found, request_digest = before
        if request_digest != digest:
            raise IdempotencyMismatch("Use a new Idempotency-Key for a new request.")
        return found

    async def run(self, run_id: str, tenant: str | None = None) -> RunRow:
        """Return a run, of that tenant only where one is given; `NotFound` otherwise."""
        found = await self.read(_one_run, run=run_id)
        if not found or (tenant is not None and found[0].tenant != tenant):
            raise NotFound(f"There is no run {run_id!r}.")
        return full(found[0])

    async def repeated(self, tenant: str, idempotency: tuple[str, str]) -> RunRow | None:
        """Return the run that was accepted for the same request with this key, if there is one."""
        key, digest = idempotency
        found = await self.read(_same_key, tenant=tenant, key=key)
        return await self.run(found[0].id) if found and found[0].request_digest == digest else None

    async def check_run(self, run_id: str, tenant: str) -> None:
        """Raise `NotFound` unless the tenant has the run; asks nobody about runs that were accepted here lately."""
        if self._tenants.get(run_id) != tenant:
            await self.run(run_id, tenant)

    def _remember(self, row: RunRow) -> RunRow:
        self._tenants[row.id] = row.tenant
        if len(self._tenants) > _REMEMBERED:
            self._tenants.popitem(last=False)
        return row

    async def runs(
        self, tenant: str, *, status: str | None = None, after: str | None = None, limit: int = 50
    ) -> tuple[list[RunRow], str | None]:
        """Return a page of a tenant's runs without their large parts, newest first, and the next page's cursor."""
        query = sa.select(*LIGHT).where(runs.c.tenant == tenant)
        if status is not None:
            query = query.where(runs.c.status == status)
        if after is not None:
            query = query.where(sa.tuple_(runs.c.created_at, runs.c.id) < _page_cursor(after))
        found = await self.read(query.order_by(runs.c.created_at.desc(), runs.c.id.desc()).limit(limit + 1))
        rows = [light(each) for each in found[:limit]]
        more = len(found) > limit
        return rows, f"{rows[-1].created_at}.{rows[-1].id}" if more else None

    async def open_runs(self, owner: str | None = ANY) -> list[RunRow]:
        """Return the runs that have not ended, oldest first: all, those of an owner, or (None) those without one."""
        query = sa.select(*FULL).where(runs.c.status.in_(OPEN)).order_by(runs.c.created_at, runs.c.id)
        if owner != ANY:
            query = query.where(runs.c.owner.is_(None) if owner is None else runs.c.owner == owner)
        return [full(each) for each in await self.read(query)]

    async def open_page(self, after: str, limit: int) -> list[OpenRun]:
        """Return runs that have not ended, in the order of their ids, without their large parts."""
        found = await self.read(_open_page, after=after, most=limit)
        return [OpenRun(each.id, each.status, each.owner, each.epoch) for each in found]

    async def unknown(self, ids: Sequence[str]) -> set[str]:
        """Return those of the ids that no run has."""
        found: set[str] = set()
        for start in range(0, len(ids), CHUNK):
            page = sa.select(runs.c.id).where(runs.c.id.in_(ids[start : start + CHUNK]))
            found |= {each.id for each in await self.read(page)}
        return set(ids) - found

    async def take_over(self, run_id: str, owner: str, epoch: int, *, parked: bool | None = None) -> bool:
        """Make `owner` the driver of a run that has not ended, or of one that is parked (or not) if that is said.

        False where another holds it by a higher epoch.
        """
        since = [status for status in OPEN if parked in (None, status == "paused")]
        values = {"run": run_id, "by": owner, "higher": epoch, "now": _now(), "since": since}
        return await self._writer.write(lambda connection: _execute(connection, _take_over, values) == 1)

    async def end_run(  # noqa: PLR0913 -- each is a column
        self,
        run_id: str,
        epoch: int | None,
        status: str,
        ended_at: int,
        *,
        outputs: Json | None = None,
        problem: Json | None = None,
        nodes: Json | None = None,
        events: Sequence[Json] | None = None,
    ) -> bool:
        """Record how a run ended, with its ledger and events.

        False where it has ended already or another driver holds it by a higher epoch; then nothing is written.
        """
        if status not in ENDED:
            raise ValueError(f"{status!r} is no end of a run")
        values = {
            "run": run_id,
            "highest": _any_epoch if epoch is None else epoch,
            "new_status": status,
            "new_ended_at": ended_at,
            "new_outputs": outputs,
            "new_problem": problem,
            "new_nodes": nodes,
        }

        def operation(connection: sa.Connection) -> bool:
            done = _execute(connection, _end_run, values) == 1
            if done and events is not None:
                _append_events(connection, run_id, events)
            return done

        return await self._writer.write(operation)

    async def park_run(
        self, run_id: str, epoch: int, nodes: Json, parked: Json, events: Sequence[Json], *, wake_at: int | None = None
    ) -> bool:
        """Record a paused run as it stands, with the events since it was last parked; False: another drives it.

        `wake_at`: when it must go on, in milliseconds since 1970 by the clock of Redis.
        """
        values = {"run": run_id, "epoch_held": epoch, "new_nodes": nodes, "new_parked": parked, "new_wake_at": wake_at}

        def operation(connection: sa.Connection) -> bool:
            done = _execute(connection, _park_run, values) == 1
            if done:
                _append_events(connection, run_id, events)
            return done

        return await self._writer.write(operation)

    async def due_runs(self, now: int, most: int) -> list[str]:
        """Return parked runs that must go on by now."""
        return [found.id for found in await self.read(_due, now=now, most=most)]

    async def resumed(self, run_id: str, epoch: int) -> None:
        """Forget how a run was parked: Redis has it again, and has gone on since."""
        values = {"run": run_id, "epoch_held": epoch}
        await self._writer.write(lambda connection: _execute(connection, _resumed, values))

    async def archived_events(self, run_id: str, after: str | None = None, limit: int = 1000) -> list[Json] | None:
        """Return a run's archived events behind a cursor, at most `limit`; None where they are not archived."""
        ms, seq = cursor(after) if after else (-1, -1)
        events: list[Json] = []
        chunk = -1
        while len(events) < limit:
            found = await self.read(_next_chunk, run=run_id, ms=ms, seq=seq, behind=chunk)
            if not found:
                break
            chunk = found[0].chunk
            events += [event for event in found[0].events if cursor(event["id"]) > (ms, seq)]
        if events:
            return events[:limit]
        return [] if await self.read(_any_chunk, run=run_id) else None

    # ---- node types

    async def save_node_types(self, types: Sequence[Json]) -> list[str]:
        """Keep the first description seen of each `type@version`; return those refused because their ports differ."""
        return await self._writer.write(lambda connection: save_types(connection, types))

    async def node_types(self) -> list[Json]:
        """Return every node type ever announced, by name."""
        found = await self.read(sa.select(node_types.c.description).order_by(node_types.c.type))
        return [each.description for each in found]

    # ---- tickets

    async def add_ticket(self, ticket_hash: str, tenant: str, expires_at: int) -> None:
        """Keep a one-time ticket, and forget those that have expired."""
        values = {"hash": ticket_hash, "tenant": tenant, "expires_at": expires_at}

        def operation(connection: sa.Connection) -> None:
            connection.execute(_expired_tickets, {"now": _now()})
            connection.execute(_insert_ticket, values)

        await self._writer.write(operation)

    async def take_ticket(self, ticket_hash: str) -> str | None:
        """Use a ticket up: its tenant, or None where it is unknown, used or expired."""

        def operation(connection: sa.Connection) -> str | None:
            found = connection.execute(_one_ticket, {"hash": ticket_hash, "now": _now()}).first()
            if found is None or connection.execute(_delete_ticket, {"used": ticket_hash}).rowcount != 1:
                return None
            return str(found.tenant)

        return await self._writer.write(operation)

    async def write(self, operation: Operation[T]) -> T:
        """Do an operation in the next transaction; its result, or what it raised."""
        return await self._writer.write(operation)

    async def read(self, query: sa.Select[Any], **values: Any) -> Rows:
        """Return every row of a query. Raises Unavailable."""
        return await self._database.read(query, values)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _execute(connection: sa.Connection, statement: sa.Insert | sa.Update, values: Json) -> int:
    return connection.execute(statement, values).rowcount


def _insert_once(connection: sa.Connection, values: Json) -> tuple[RunRow, str] | None:
    """Insert a run unless its idempotency key was used; the run and request digest found in that case."""
    if found := connection.execute(_same_key, {"tenant": values["tenant"], "key": values["idempotency_key"]}).first():
        return RunRow(*found[:-1]), found[-1]
    connection.execute(_insert_run, values)
    return None


def _page_cursor(after: str) -> "sa.Tuple":
    created_at, _, run_id = after.partition(".")
    if not (created_at.isascii() and created_at.isdecimal() and len(created_at) < 19 and 0 < len(run_id) <= 64):
        raise InvalidRequest("The cursor `after` is not one that a page gave as `next`.")
    return sa.tuple_(sa.literal(int(created_at)), sa.literal(run_id))


def _append_events(connection: sa.Connection, run_id: str, events: Sequence[Json]) -> None:
    """Archive the events behind those archived before; ones that are there already are left out."""
    found = connection.execute(_last_chunk, {"run": run_id}).first()
    first, last = (found.chunk + 1, (found.last_ms, found.last_seq)) if found else (0, (-1, -1))
    newer = [event for event in events if cursor(event["id"]) > last]
    if newer or not found:
        connection.execute(_insert_chunk, _chunks(run_id, newer, first))


def _chunks(run_id: str, events: Sequence[Json], first: int) -> list[Json]:
    """Cut events into chunks; an empty archive is one empty chunk, so that it can be told from none."""
    parts = [list(events[start : start + CHUNK]) for start in range(0, len(events), CHUNK)] or [[]]
    ends = [cursor(part[-1]["id"]) if part else (0, 0) for part in parts]
    return [
        {"run": run_id, "chunk": number, "last_ms": ms, "last_seq": seq, "events": part}
        for number, (part, (ms, seq)) in enumerate(zip(parts, ends, strict=True), first)
    ]
