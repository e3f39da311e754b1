"""Stored workflows in the database: a name has versions, numbered from 1, which never change and never go.

    put    under a condition on the newest version, in one transaction: of two that raced, the second sees the first
    hide   the name is no longer listed or found; its versions still are by their numbers, and a later put goes on
           with the next number

Everything belongs to a tenant. Errors: `NotFound`, `PreconditionFailed`, `TooManyVersions`, `Unavailable`.
"""

import re
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from spindle_common.problems import Conflict, InvalidRequest, NotFound, PreconditionFailed
from spindle_control.conditions import Condition, etag_of
from spindle_control.rows import Json
from spindle_control.store import Store
from spindle_control.tables import workflow_versions, workflows

T = TypeVar("T")
MOST_VERSION: Final = 999_999_999
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_bind = sa.bindparam
_mine = (workflows.c.tenant == _bind("of")) & (workflows.c.name == _bind("called"))
_ENTRY = tuple(workflows.c[name] for name in ("name", "version", "digest", "description", "created_at", "updated_at"))
_entry: sa.Select[Any] = sa.select(*_ENTRY, workflows.c.hidden).where(_mine)
_entry_locked = _entry.with_for_update()
_insert = sa.insert(workflows)
_update = (
    sa.update(workflows)
    .where(_mine)
    .values({name: _bind(f"new_{name}") for name in ("version", "digest", "description", "updated_at", "hidden")})
)
_hide = sa.update(workflows).where(_mine).values(hidden=True)
_insert_version = sa.insert(workflow_versions)
_versions = workflow_versions.c
_LIGHT = (_versions.name, _versions.version, _versions.digest, _versions.size, _versions.created_at)
_versions_of = (_versions.tenant == _bind("of")) & (_versions.name == _bind("called"))
_one_version = sa.select(*_LIGHT, _versions.description, _versions.document).where(
    _versions_of, _versions.version == _bind("number", type_=sa.Integer)
)
_some_versions = (
    sa.select(*_LIGHT, _versions.description)
    .where(_versions_of, _versions.version < _bind("below", type_=sa.Integer))
    .order_by(_versions.version.desc())
    .limit(_bind("most", type_=sa.Integer))
)


class TooManyVersions(Conflict):
    """The workflow has as many versions as are kept of one."""

    code, title = "too-many-versions", "The workflow has too many versions"


@dataclass(frozen=True, slots=True)
class Entry:
    """A name, as lists show it: its newest version. Times are milliseconds since 1970."""

    name: str
    version: int
    digest: str
    description: str | None
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class Version:
    """One version; in lists without its document. `size` is that of the canonical document in bytes."""

    name: str
    version: int
    digest: str
    size: int
    created_at: int
    description: str | None
    document: Json | None = None


class StoredWorkflows:
    """The tables `workflows` and `workflow_versions`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def put(self, tenant: str, draft: Version, condition: Condition, most: int) -> tuple[int, bool]:
        """Keep a document as the next version of its name, unless it is the newest already: (number, whether new).

        `draft.version` is not looked at; `most` versions are kept.
        """

        def operation(connection: sa.Connection) -> tuple[int, bool] | Exception:
            return _put(connection, tenant, draft, condition, most)

        return _raised(await self._store.write(operation))

    async def hide(self, tenant: str, name: str, condition: Condition) -> Entry:
        """Hide a name; returns what was hidden."""

        def operation(connection: sa.Connection) -> Entry | Exception:
            found = connection.execute(_entry_locked, {"of": tenant, "called": name}).first()
            if found is None or found.hidden:
                return _unknown(name)
            if not condition.holds(etag_of(found.digest)):
                return _stale(found.digest)
            connection.execute(_hide, {"of": tenant, "called": name})
            return _entry_of(found)

        return _raised(await self._store.write(operation))

    async def entry(self, tenant: str, name: str, *, hidden: bool = False) -> Entry:
        """Return a name with its newest version; a hidden one only if that is said."""
        found = await self._store.read(_entry, of=tenant, called=name)
        if not found or (found[0].hidden and not hidden):
            raise _unknown(name)
        return _entry_of(found[0])

    async def version(self, tenant: str, name: str, number: int | None = None) -> Version:
        """Return a version, the newest where none is named (not of a hidden name)."""
        wanted = number if number is not None else (await self.entry(tenant, name)).version
        found = await self._store.read(_one_version, of=tenant, called=name, number=wanted)
        if not found:
            raise NotFound(f"There is no version {wanted} of a workflow {name!r}.")
        return _version_of(found[0])

    async def sizes(self, tenant: str, which: Collection[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the sizes of those of these versions that exist."""
        query = sa.select(_versions.name, _versions.version, _versions.size).where(*_among(tenant, which))
        return {(row.name, row.version): row.size for row in await self._store.read(query)}

    async def documents(self, tenant: str, which: Collection[tuple[str, int]]) -> dict[tuple[str, int], Json]:
        """Return the documents of those of these versions that exist."""
        query = sa.select(_versions.name, _versions.version, _versions.document).where(*_among(tenant, which))
        return {(row.name, row.version): row.document for row in await self._store.read(query)}

    async def newest(self, tenant: str, names: Collection[str]) -> dict[str, int]:
        """Return the newest version's number of those of these names that exist and are not hidden."""
        among = (workflows.c.tenant == tenant, workflows.c.name.in_(names), ~workflows.c.hidden)
        found = await self._store.read(sa.select(workflows.c.name, workflows.c.version).where(*among))
        return {row.name: row.version for row in found}

    async def page(self, tenant: str, after: str | None, limit: int) -> tuple[list[Entry], str | None]:
        """Return names that are not hidden, newest change first, and the next page's cursor. Raises InvalidRequest."""
        query = sa.select(*_ENTRY).where(workflows.c.tenant == tenant, ~workflows.c.hidden)
        if after is not None:
            query = query.where(sa.tuple_(workflows.c.updated_at, workflows.c.name) < _cursor(after))
        order = (workflows.c.updated_at.desc(), workflows.c.name.desc())
        found = await self._store.read(query.order_by(*order).limit(limit + 1))
        entries = [_entry_of(row) for row in found[:limit]]
        more = len(found) > limit
        return entries, f"{entries[-1].updated_at}.{entries[-1].name}" if more else None

    async def versions(self, tenant: str, name: str, after: str | None, limit: int) -> tuple[list[Version], str | None]:
        """Return versions of a name, hidden or not, newest first, and the next page's cursor. Raises InvalidRequest."""
        await self.entry(tenant, name, hidden=True)
        below = _number(after) if after is not None else MOST_VERSION + 1
        found = await self._store.read(_some_versions, of=tenant, called=name, below=below, most=limit + 1)
        versions = [_version_of(row) for row in found[:limit]]
        more = len(found) > limit
        return versions, str(versions[-1].version) if more else None


def _put(
    connection: sa.Connection, tenant: str, draft: Version, condition: Condition, most: int
) -> tuple[int, bool] | Exception:
    found = connection.execute(_entry_locked, {"of": tenant, "called": draft.name}).first()
    shown = None if found is None or found.hidden else found.digest
    if not condition.holds(etag_of(shown) if shown else None):
        return _stale(shown)
    if found is not None and shown == draft.digest:
        return found.version, False
    number = 1 if found is None else found.version + 1
    if number > most:
        return TooManyVersions(f"{most} are kept; store it under another name.")
    now = time.time_ns() // 1_000_000
    entry = {"version": number, "digest": draft.digest, "description": draft.description, "updated_at": now}
    entry["hidden"] = False
    if found is None:
        connection.execute(_insert, {"tenant": tenant, "name": draft.name, "created_at": now, **entry})
    else:
        changes = {f"new_{name}": value for name, value in entry.items()}
        connection.execute(_update, {"of": tenant, "called": draft.name, **changes})
    values = {name: getattr(draft, name) for name in ("name", "digest", "size", "description", "document")}
    connection.execute(_insert_version, {"tenant": tenant, "version": number, "created_at": now, **values})
    return number, True


def _entry_of(row: sa.Row[Any]) -> Entry:
    return Entry(**{name: getattr(row, name) for name in Entry.__slots__})


def _version_of(row: sa.Row[Any]) -> Version:
    values: tuple[Any, ...] = tuple(row)
    return Version(*values)


def _raised(answer: T | Exception) -> T:
    """Raise outside the transaction what an operation answered, so that it spoils no others of its group."""
    if isinstance(answer, Exception):
        raise answer
    return answer


def _among(tenant: str, which: Collection[tuple[str, int]]) -> tuple[sa.ColumnElement[bool], ...]:
    return _versions.tenant == tenant, sa.tuple_(_versions.name, _versions.version).in_(list(which))


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no workflow {name!r}.")


def _stale(digest: str | None) -> PreconditionFailed:
    now = f"Its newest version is {etag_of(digest)}." if digest else "There is no such workflow."
    return PreconditionFailed(now)


def _cursor(after: str) -> "sa.Tuple":
    updated_at, _, name = after.partition(".")
    if not NAME.fullmatch(name):
        raise InvalidRequest("The cursor `after` is not one that a page gave as `next`.")
    return sa.tuple_(sa.literal(_number(updated_at, 18)), sa.literal(name))


def _number(text: str, digits: int = 9) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= digits):
        raise InvalidRequest("The cursor `after` is not one that a page gave as `next`.")
    return int(text)
