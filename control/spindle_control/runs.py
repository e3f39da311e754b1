"""What the API does with runs: accept, show, wait, watch. What is done with them later: `operations`.

Accepting: check -> bind inputs -> plan -> hash in Redis -> row in the database -> drive. The hash comes first, so that
one write to the database accepts a run, and a row that says `running` always had a hash: if that is gone, it was lost.
"""

import asyncio
import contextlib
import json
import re
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from spindle_common.contracts import Mistake
from spindle_common.digests import digest
from spindle_common.events import RUN_ENDS, START, Hub, Interrupted, Lagging, cursor, read_events, rfc3339
from spindle_common.problems import InvalidInputs, InvalidRequest, InvalidWorkflow, TooManyRequests, mistake
from spindle_common.stopping import stop
from spindle_control.calls import reference_of
from spindle_control.compiler import bind_inputs
from spindle_control.drive import Parts
from spindle_control.driver import Driver
from spindle_control.forking import Repeat
from spindle_control.library import Chosen, Library
from spindle_control.mermaid import mermaid
from spindle_control.opening import open_run
from spindle_control.paths import Nodes
from spindle_control.records import record_of
from spindle_control.store import ENDED, RunRow

Json = dict[str, Any]
Key = tuple[str, str] | None
"""An idempotency key and the digest of its request."""
_SOURCES = frozenset({"workflow", "workflow_ref"})
_SUBMISSION = _SOURCES | {"inputs", "priority", "seeds_from"}
_SEEDS = re.compile(r"[0-9a-z-]{1,64}")
_PAGE = 1000


class RunService:
    """Runs, as the API sees them."""

    def __init__(self, parts: Parts, library: Library, driver: Driver, hub: Hub) -> None:
        self._parts, self._library, self._driver, self._hub = parts, library, driver, hub

    # Accepting -----------------------------------------------------------------------------------------------------

    async def submit(self, tenant: str, body: Json, idempotency_key: str | None, traceparent: str | None) -> RunRow:
        """Accept a run. Raises InvalidWorkflow, InvalidInputs, Conflict, TooManyRequests, Unavailable."""
        _check_shape(body)
        key = (idempotency_key, digest(body)) if idempotency_key else None
        try:
            chosen = await self._library.choose(tenant, body)
        except InvalidWorkflow:  # what was accepted stays so, whatever has been hidden or withdrawn since
            if key and (before := await self._parts.store.repeated(tenant, key)):
                return before
            raise
        inputs = bind_inputs(chosen.accepted.checked, body.get("inputs", {}))
        driven = await self._room(tenant)
        row = self._new_row(tenant, chosen, inputs, driven=driven)
        row = replace(row, priority=body.get("priority", 0), traceparent=traceparent, seeds_from=body.get("seeds_from"))
        return await self._open(row, chosen, key)

    async def repeat(self, before: RunRow, repeat: Repeat, key: Key = None) -> RunRow:
        """Accept a run that repeats another with results that it re-uses. Raises as `submit` does."""
        chosen = repeat.chosen
        if chosen.accepted.digest == before.workflow_digest:  # else it is no longer what the library has
            chosen = replace(chosen, version=before.workflow_version)
        driven = await self._room(before.tenant)
        row = self._new_row(before.tenant, chosen, repeat.inputs, driven=driven)
        row = replace(row, priority=repeat.priority, parent=before.id, nodes=repeat.known)
        return await self._open(replace(row, reason=repeat.reason, seeds_from=before.seeds), chosen, key)

    async def _room(self, tenant: str) -> bool:
        """Whether this control has room to drive another run; else it waits. Raises TooManyRequests."""
        if self._driver.admits():
            return True
        limits = self._parts.settings
        every, own = await self._parts.queue.waiting_count(tenant)
        if every >= limits.max_queued_runs or own >= limits.max_tenant_runs:
            raise TooManyRequests("as many runs wait as are allowed to", retry_after=5.0)
        return False

    async def _open(self, row: RunRow, chosen: Chosen, key: Key) -> RunRow:
        with self._driver.reserve(row.id):
            weight = self._parts.settings.weight_of(row.tenant)
            await open_run(self._parts.queue, row, chosen.accepted.planned, weight)
            return await self._keep(row, key)

    def _new_row(self, tenant: str, chosen: Chosen, inputs: Json, *, driven: bool) -> RunRow:
        now = int(time.time() * 1000)
        return RunRow(
            id=_new_id(),
            tenant=tenant,
            status="running" if driven else "queued",
            priority=0,
            owner=self._driver.owner if driven else None,
            epoch=1 if driven else 0,
            created_at=now,
            started_at=now if driven else None,
            ended_at=None,
            workflow=chosen.document,
            workflow_digest=chosen.accepted.digest,
            workflow_version=chosen.version,
            inputs=inputs,
        )

    async def _keep(self, row: RunRow, key: Key) -> RunRow:
        try:
            if row.parent is not None:  # forgotten before our hash named its bytes, it may have taken them along
                await self._parts.store.run(row.parent)
            kept = await self._parts.store.insert_run(row, key)
        except BaseException:
            await self._discard(row.id)
            raise
        if kept.id != row.id:
            await self._discard(row.id)
        elif row.status == "running":
            self._driver.start(row, fresh=True)
        return kept

    async def _discard(self, run: str) -> None:
        """Take back a hash whose row was not written."""
        with contextlib.suppress(Exception):
            await self._parts.queue.finish(run, None, "cancelled", "{}")
            await self._parts.queue.archive(run, 0)

    async def validate(self, tenant: str, body: Json) -> Json:
        """Check a workflow, or a whole submission, and show its plan. Raises InvalidWorkflow, InvalidInputs."""
        whole = not _SOURCES.isdisjoint(body)
        if whole:
            _check_shape(body)
        chosen = await (self._library.choose(tenant, body) if whole else self._library.accept(tenant, body))
        accepted = chosen.accepted
        if whole and "inputs" in body:
            bind_inputs(accepted.checked, body["inputs"])
        warnings = [warning.model_dump(mode="json") for warning in accepted.checked.warnings]
        plan = accepted.planned.plan
        chart = mermaid(plan, Nodes(chosen.document, await self._library.called(tenant, chosen.document)))
        shown = {"plan": plan.to_json(), "mermaid": chart}
        return {"valid": True, "digest": accepted.digest, "warnings": warnings} | shown

    # Showing -------------------------------------------------------------------------------------------------------

    async def record(self, run: str, tenant: str, wait: float = 0) -> Json:
        """Return the run's record; with `wait` once it has ended, or after so many seconds. Raises NotFound."""
        row = await self._parts.store.run(run, tenant)
        if wait > 0 and row.status not in ENDED:
            waiting = asyncio.ensure_future(self._ended(run, tenant))
            try:
                await asyncio.wait({waiting}, timeout=wait)
            finally:
                await stop([waiting])
            row = await self._parts.store.run(run, tenant)
        return await self._live_record(row)

    async def _live_record(self, row: RunRow) -> Json:
        if row.status in ENDED:
            return record_of(row, row.nodes or {}, {})
        queue = self._parts.queue
        status, ending, ended_at = await queue.run_fields(row.id, "status", "ending", "ended_at")
        if status is None:
            return record_of(row, row.nodes or {}, {})
        shown = list(row.workflow["nodes"])  # what is inside them is paged
        record = record_of(row, await queue.nodes(row.id, shown), await queue.ticks_of(row.id, shown))
        record["status"] = "paused" if status == "parking" else status
        if status in ENDED:
            record |= {"ended_at": rfc3339(int(ended_at or 0)), **json.loads(ending or "{}")}
        return record

    async def _ended(self, run: str, tenant: str) -> None:
        async for event in self.watch(run, tenant, START):
            if event["type"] in RUN_ENDS:
                return

    async def page(self, tenant: str, status: str | None, after: str | None, limit: int) -> Json:
        """Return a page of runs, newest first, without their nodes."""
        rows, following = await self._parts.store.runs(tenant, status=status, after=after, limit=limit)
        return {"runs": [record_of(row, None, {}) for row in rows], "next": following}

    # Watching ------------------------------------------------------------------------------------------------------

    async def history(self, run: str, tenant: str, after: str | None, limit: int) -> Json:
        """Return durable events after a cursor, and the cursor after them."""
        row = await self._parts.store.run(run, tenant)
        events = await self._past(row.id, _valid(after), limit)
        return {"events": events, "next": events[-1]["id"] if events else after}

    async def _past(self, run: str, after: str, limit: int) -> list[Json]:
        """Durable events after a cursor: from Redis while it has them, then from the archive.

        Of a run that was parked Redis has only what came since, beginning with its being resumed.
        """
        found = await read_events(self._parts.queue.client, run, after, limit)
        if found and not found[0]["data"].get("resumed"):
            return found
        archived = await self._parts.store.archived_events(run, after, limit) or []
        before = [event for event in archived if not found or cursor(event["id"]) < cursor(found[0]["id"])]
        return (before + found)[:limit]

    async def watch(self, run: str, tenant: str, after: str | None) -> AsyncIterator[Json]:
        """Yield events after a cursor, then live ones, until the run's end. Raises NotFound, InvalidRequest.

        Ticks and previews come in between, without id. A watcher that is too slow gets `bye` with its cursor.
        """
        await self._parts.store.check_run(run, tenant)
        seen = _valid(after)
        subscription = await self._hub.open(run, self._parts.settings.socket_queue)
        try:
            while True:
                async for event in self._replay(run, seen):
                    seen = event.get("id", seen)
                    yield event
                    if event["type"] in RUN_ENDS:
                        return
                if await self._has_ended(run):
                    if not await self._past(run, seen, 1):
                        return
                    continue
                async for event in self._follow(subscription, seen):
                    seen = event.get("id", seen)
                    yield event
                    if event["type"] in RUN_ENDS:
                        return
        finally:
            subscription.close()

    async def _has_ended(self, run: str) -> bool:
        """Whether a run has ended: Redis tells while it holds the run, then the database."""
        (status,) = await self._parts.queue.run_fields(run, "status")
        return (status or (await self._parts.store.run(run)).status) in ENDED

    async def _replay(self, run: str, after: str) -> AsyncIterator[Json]:
        first = True
        while True:
            events = await self._past(run, after, _PAGE)
            if first and not events and await self._forgotten(run):
                yield await self._gap(run)
            for event in events:
                yield event
            if len(events) < _PAGE:
                return
            after, first = events[-1]["id"], False

    async def _forgotten(self, run: str) -> bool:
        """Whether neither Redis nor the archive has any event of the run, not even its first."""
        return not await self._past(run, START, 1)

    async def _gap(self, run: str) -> Json:
        snapshot = await self._live_record(await self._parts.store.run(run))
        data = {"reason": "the events of this run were lost", "snapshot": snapshot}
        return {"type": "gap", "run": run, "time": rfc3339(int(time.time() * 1000)), "data": data}

    async def _follow(self, subscription: Any, seen: str) -> AsyncIterator[Json]:
        """Live events newer than the cursor; returns when the past must be read again."""
        while True:
            try:
                event = await subscription.next()
            except (Lagging, Interrupted):
                return
            if event["type"] == "gap":
                return
            if "id" in event:
                if cursor(event["id"]) <= cursor(seen):
                    continue
                seen = event["id"]
            yield event


def _new_id() -> str:
    """A run id that sorts by time: 48 bits of milliseconds, 56 of chance, in hex."""
    return f"{int(time.time() * 1000):012x}{secrets.token_hex(7)}"


def _valid(after: str | None) -> str:
    try:
        return "-".join(map(str, cursor(after or START)))
    except ValueError:
        wrong = mistake("/after", "bad-cursor", f"{after!r} is no event id", "use the id of an event, such as 0-0")
        raise InvalidRequest("the cursor is not valid", errors=[wrong]) from None


def _check_shape(body: object) -> None:
    """The submission's own members; the workflow inside is the compiler's to check."""
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object with a `workflow`, or a `workflow_ref`")
    wrong = [mistake(f"/{key}", "unknown-member", f"`{key}` is not known here") for key in body.keys() - _SUBMISSION]
    wrong += _check_source(body)
    if not isinstance(body.get("inputs", {}), dict):
        raise InvalidInputs(errors=[mistake("/inputs", "wrong-type", "`inputs` must be an object")])
    priority = body.get("priority", 0)
    if not isinstance(priority, int) or isinstance(priority, bool) or not -100 <= priority <= 100:
        wrong.append(mistake("/priority", "out-of-range", "`priority` must be a whole number from -100 to 100"))
    seeds = body.get("seeds_from", "0")
    if not isinstance(seeds, str) or not _SEEDS.fullmatch(seeds):
        wrong.append(mistake("/seeds_from", "bad-reference", "`seeds_from` must be the id of a run"))
    if wrong:
        raise InvalidRequest("the submission is not valid", errors=wrong)


def _check_source(body: Json) -> list[Mistake]:
    """Exactly one of `workflow` and `workflow_ref` says what is to run."""
    given = _SOURCES & body.keys()
    if not given:
        hint = "put the workflow under `workflow`, or name a stored one in `workflow_ref`"
        return [mistake("", "missing-member", "`workflow` is missing", hint)]
    if given == _SOURCES:
        return [mistake("/workflow_ref", "two-workflows", "there is a `workflow` already", "leave one of them out")]
    if "workflow_ref" in body and reference_of(body["workflow_ref"]) is None:
        return [mistake("/workflow_ref", "bad-reference", "it names no workflow", 'write "poster@3" or "poster"')]
    return []
