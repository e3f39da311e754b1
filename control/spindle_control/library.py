"""The library: workflows kept by name, and what is accepted together with those that it calls.

put      name agrees -> gather what it calls -> check -> spare the bytes it names -> next version, or the newest
accept   a document -> gather -> check and plan; wherever a document becomes a plan, it goes through here
choose   what a submission names -> a document, or the version of a stored one -> accept
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from spindle_common.contracts import Mistake
from spindle_common.digests import canonical, digest_of
from spindle_common.events import rfc3339
from spindle_common.problems import InvalidWorkflow, NotFound, mistake
from spindle_control import difference
from spindle_control.calls import gather, reference_of
from spindle_control.conditions import Condition
from spindle_control.garbage import digest_pattern
from spindle_control.planner import Accepted, Planned, Planner
from spindle_control.rows import Json, RunRow
from spindle_control.stored import Entry, StoredWorkflows, Version

_SPARED_AT_ONCE = 16


class UnknownWorkflow(InvalidWorkflow):
    """The run names a workflow, or a version, that is not stored."""


Spare = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class Chosen:
    """A document as its run keeps it (its calls pinned to versions), checked and planned.

    `version` is that of the stored workflow that it is, if it is one.
    """

    document: Json
    accepted: Accepted
    version: int | None = None


class Library:
    """Stored workflows, and acceptance against them. `spare` keeps bytes from garbage collection until named."""

    def __init__(self, stored: StoredWorkflows, planner: Planner, spare: Spare, most_versions: int) -> None:
        self._stored, self._planner, self._spare, self._most = stored, planner, spare, most_versions

    # Accepting -----------------------------------------------------------------------------------------------------

    async def accept(self, tenant: str, document: object) -> Chosen:
        """Check and plan a document with what it calls. Raises InvalidWorkflow with every mistake, Unavailable."""
        found = await gather(self._stored, tenant, document)
        return Chosen(found.document, self._planner.accept(found.document, found.library))

    async def called(self, tenant: str, document: object) -> Mapping[str, Json]:
        """Return the documents that one calls, directly or through others, by "name@version". Raises Unavailable."""
        return (await gather(self._stored, tenant, document)).library

    async def choose(self, tenant: str, submission: Json) -> Chosen:
        """Accept what a submission names: its `workflow`, or the stored one of its `workflow_ref`.

        Raises:
            InvalidWorkflow: with every mistake.
            UnknownWorkflow: there is no such version.
            Unavailable: the database is away.

        """
        if "workflow_ref" not in submission:
            return await self.accept(tenant, submission["workflow"])
        name, number = reference_of(submission["workflow_ref"]) or ("", None)
        try:
            found = await self._stored.version(tenant, name, number)
        except NotFound as error:
            wrong = mistake(
                "/workflow_ref", "unknown-workflow", error.detail, "`spindle workflows` lists what there is"
            )
            raise UnknownWorkflow("the run names a workflow that is not stored", errors=[wrong]) from None
        return replace(await self.accept(tenant, found.document), version=found.version)

    def known(self, row: RunRow) -> Planned | None:
        """The plan of a run, if this control made it with the catalog of the moment."""
        return self._planner.known(row)

    # Changing ------------------------------------------------------------------------------------------------------

    async def put(self, tenant: str, name: str, body: Json, condition: Condition) -> tuple[Json, bool]:
        """Keep a document under a name; returns the version's record and whether it is new.

        Raises:
            InvalidWorkflow: with every mistake.
            PreconditionFailed, TooManyVersions, Unavailable.

        """
        document = await self._checked(tenant, name, body)
        text = canonical(document)
        description = document["description"].replace("\0", "") if "description" in document else None
        draft = Version(name, 0, digest_of(text), len(text), int(time.time() * 1000), description, document)
        digests = sorted({found[0] for found in digest_pattern.finditer(text.decode())})
        for start in range(0, len(digests), _SPARED_AT_ONCE):
            await asyncio.gather(*map(self._spare, digests[start : start + _SPARED_AT_ONCE]))
        number, new = await self._stored.put(tenant, draft, condition, self._most)
        return record_of(await self._stored.version(tenant, name, number)), new

    async def _checked(self, tenant: str, name: str, body: Json) -> Json:
        """Return the document to keep: under its name, its calls pinned."""
        wrong = [] if body.get("name", name) == name else [_other_name(name)]
        document: Json = {}
        try:
            document = (await self.accept(tenant, _named(body, name))).document
        except InvalidWorkflow as error:
            if not wrong:
                raise
            wrong += error.errors
        if wrong:
            raise InvalidWorkflow("the workflow cannot be stored under this name as it is", errors=wrong)
        return document

    async def hide(self, tenant: str, name: str, condition: Condition) -> Json:
        """Take a name off the lists; its versions stay. Raises NotFound, PreconditionFailed, Unavailable."""
        return entry_of(await self._stored.hide(tenant, name, condition)) | {"hidden": True}

    # Showing -------------------------------------------------------------------------------------------------------

    async def version(self, tenant: str, name: str, number: int | None) -> Version:
        """Return a version, the newest where none is named. Raises NotFound, Unavailable."""
        return await self._stored.version(tenant, name, number)

    async def page(self, tenant: str, after: str | None, limit: int) -> Json:
        """Return a page of workflows, newest change first. Raises InvalidRequest, Unavailable."""
        entries, following = await self._stored.page(tenant, after, limit)
        return {"workflows": [entry_of(entry) for entry in entries], "next": following}

    async def versions(self, tenant: str, name: str, after: str | None, limit: int) -> Json:
        """Return a page of a workflow's versions, newest first. Raises NotFound, InvalidRequest, Unavailable."""
        versions, following = await self._stored.versions(tenant, name, after, limit)
        return {"versions": [record_of(version) for version in versions], "next": following}

    async def difference(self, tenant: str, name: str, before: int | None, after: int | None) -> Json:
        """Return what changed from one version to another, by default the last change. Raises NotFound, Unavailable."""
        new = await self._stored.version(tenant, name, after)
        old = await self._stored.version(tenant, name, before if before is not None else max(1, new.version - 1))
        patch = await asyncio.to_thread(difference.patch, old.document or {}, new.document or {})
        return {
            "name": name,
            "from": {"version": old.version, "digest": old.digest},
            "to": {"version": new.version, "digest": new.digest},
            "nodes": difference.nodes(old.document or {}, new.document or {}),
            "patch": patch,
        }


def entry_of(entry: Entry) -> Json:
    """Build the record of a workflow, as lists show it."""
    times = {"created_at": rfc3339(entry.created_at), "updated_at": rfc3339(entry.updated_at)}
    identity = {"name": entry.name, "version": entry.version, "digest": entry.digest}
    return identity | _described(entry.description) | times


def record_of(version: Version) -> Json:
    """Build the record of a version; with its `workflow` where the document was read."""
    identity: Json = {"name": version.name, "version": version.version, "digest": version.digest, "size": version.size}
    record = identity | _described(version.description) | {"created_at": rfc3339(version.created_at)}
    return record if version.document is None else record | {"workflow": version.document}


def _described(description: str | None) -> Json:
    return {} if description is None else {"description": description}


def _named(body: Json, name: str) -> Json:
    """Put the name where people look for it."""
    rest: dict[str, Any] = {key: value for key, value in body.items() if key not in ("schema", "name")}
    return {key: body[key] for key in ("schema",) if key in body} | {"name": name} | rest


def _other_name(name: str) -> Mistake:
    return mistake("/name", "other-name", f"it is to be stored as {name!r}", "leave it out, or let it be the same")
