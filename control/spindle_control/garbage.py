"""Garbage collection: what nobody needs any more, found and deleted; never what a run names or someone just puts.

    forget ended runs, spent idempotency keys, expired tickets (database) -> abandon uploads of the dead (store)
    forget what the content cache has kept for long without being asked for it (its bytes are no longer spared by that)
    mark      every digest that Redis or the database names
    condemn   old bytes whose digest was not met: from now on naming one pardons it
    look again at what is in flight or has changed since: what was named before it was condemned
    execute   each one left, unless it was pardoned, spared or touched -> delete -> deleted

Marking looks into Redis first: what ends meanwhile goes from there to the database, never back. The steps in Redis,
and why no order of theirs loses named bytes: `spindle_common.garbage`.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from spindle_common.artifacts import ArtifactNotFound, ArtifactStore, Shelf, Stored, StoreUnavailable
from spindle_common.cache import SHELF
from spindle_common.durations import parse_duration
from spindle_common.garbage import Garbage
from spindle_common.problems import SpindleError, Unavailable
from spindle_common.stopping import stop
from spindle_control import metrics
from spindle_control.retention import Retention, changed_since, ended_before, spent_key
from spindle_control.settings import ControlSettings

log = logging.getLogger(__name__)
Json = dict[str, Any]
digest_pattern = re.compile(r"sha256:([0-9a-f]{64})")
_DIGEST_BYTES = re.compile(rb"sha256:([0-9a-f]{64})")
_DIGEST_LENGTH = 71
_SPILLED = re.compile(r'\$spilled\\*":\s*\{[^{}]*?sha256:([0-9a-f]{64})')

_LEASE_SECONDS = 60.0
_POLL_SECONDS = 60.0
_SHOWN = 10
_MOST = 100_000  # artifacts in one collection: the next takes the rest
_AT_ONCE = 4
_SLACK_MS = 2 * 3600 * 1000  # clocks of controls may differ from that of Redis
_LEAST_UPLOAD_SECONDS = 3600.0
# A deletion must be over in 60 s (`DELETE_SECONDS`), whatever the network does: begun in 15, then 40 at most.
_BEGIN_SECONDS, _DELETE_SECONDS = 15.0, 42.0


@dataclass(frozen=True)
class Policy:
    """How long things are kept, in seconds; `runs` None: for ever."""

    runs: float | None
    artifacts: float
    idempotency: float
    cache: float = 7 * 86400.0

    @classmethod
    def of(cls, settings: ControlSettings) -> "Policy":
        """Read it from the settings."""
        runs = None if settings.keep_runs is None else parse_duration(settings.keep_runs)
        lasting = (settings.keep_artifacts, settings.keep_idempotency, settings.keep_cache)
        return cls(runs, *map(parse_duration, lasting))


@dataclass
class Tally:
    """What went of one kind: how many, bytes, and the first few."""

    count: int = 0
    bytes: int = 0
    first: list[Json] = field(default_factory=list)

    def add(self, size: int, /, **shown: Any) -> None:
        """Count one."""
        self.count += 1
        self.bytes += size
        if len(self.first) < _SHOWN:
            self.first.append(shown)


@dataclass
class Report:
    """What a collection deleted; of a dry run, what it would delete."""

    dry_run: bool
    runs: Tally = field(default_factory=Tally)
    artifacts: Tally = field(default_factory=Tally)
    uploads: Tally = field(default_factory=Tally)
    cached: Tally = field(default_factory=Tally)
    idempotency_keys: int = 0
    tickets: int = 0
    seconds: float = 0.0

    def to_json(self) -> Json:
        """Return it for programs."""
        return asdict(self)


class Superseded(SpindleError):
    """Another collection has begun, because this one fell silent."""

    code, title, status = "superseded", "Another collection goes on", 409


class Collector:
    """Collects once when asked; on its own store, so that its requests wait behind no others.

    `shelf` is where the content cache keeps its entries.
    """

    def __init__(
        self,
        garbage: Garbage,
        retention: Retention,
        artifacts: ArtifactStore,
        policy: Policy,
        shelf: Shelf | None = None,
    ) -> None:
        self._garbage, self._retention, self._artifacts, self._policy = garbage, retention, artifacts, policy
        self._shelf = shelf

    async def collect(self, every: float = 0.0) -> Report | None:
        """Collect, unless another does or did so in the last `every` seconds (None). Raises Unavailable, Superseded."""
        name = secrets.token_hex(8)
        if not await self._garbage.collect(name, _LEASE_SECONDS, every):
            return None
        renewing = asyncio.create_task(self._renew(name), name="garbage lease")
        collecting = asyncio.create_task(self._whole(name), name="garbage collection")
        try:
            await asyncio.wait({renewing, collecting}, return_when=asyncio.FIRST_COMPLETED)
            if not collecting.done():
                raise Superseded("this collection was silent for too long, and another one has begun")
            return await collecting
        finally:
            await stop([renewing, collecting])
            await self._garbage.collected(name, whole=not collecting.cancelled() and collecting.exception() is None)

    async def dry_run(self) -> Report:
        """Tell what a collection would delete now; deletes nothing, and needs no lease."""
        began, report = time.monotonic(), Report(dry_run=True)
        await self._forget(report)
        await self._abandon(report)
        await self._forget_entries(report)
        kept = sa.true() if self._policy.runs is None else ~ended_before(await self._ago(self._policy.runs))
        for stored in (await self._unnamed(await self._named(kept))).values():
            _count(report.artifacts, stored)
        report.seconds = round(time.monotonic() - began, 3)
        return report

    async def _renew(self, name: str) -> None:
        """Keep the lease; returns when it is lost."""
        while True:
            await asyncio.sleep(_LEASE_SECONDS / 6)
            try:
                if not await self._garbage.collecting(name, _LEASE_SECONDS):
                    return
            except Unavailable as error:
                log.warning("garbage: %s", error)

    async def _whole(self, name: str) -> Report:
        began, report = time.monotonic(), Report(dry_run=False)
        await self._forget(report)
        await self._abandon(report)
        await self._forget_entries(report)
        since = await self._garbage.now() - _SLACK_MS
        unnamed = await self._unnamed(await self._named(sa.true()))
        if unnamed:
            await self._garbage.condemn(name, ["sha256:" + digest.hex() for digest in unnamed])
            async for digest in self._digests(changed_since(since), since):
                unnamed.pop(digest, None)
            await self._execute(name, list(unnamed.values()), report)
        report.seconds = round(time.monotonic() - began, 3)
        return report

    # Rows and uploads ------------------------------------------------------------------------------------------------

    async def _ago(self, seconds: float) -> int:
        return await self._garbage.now() - int(seconds * 1000)

    async def _forget(self, report: Report) -> None:
        """Let the database go of what has had its time."""
        if self._policy.runs is not None:
            async for page in self._retention.pages(ended_before(await self._ago(self._policy.runs))):
                for run in page:
                    report.runs.add(0, run=run)
                if not report.dry_run:
                    await self._retention.forget_runs(page)
        async for page in self._retention.pages(spent_key(await self._ago(self._policy.idempotency))):
            report.idempotency_keys += len(page)
            if not report.dry_run:
                await self._retention.forget_keys(page)
        now = time.time_ns() // 1_000_000  # whoever made a ticket counted by a control's clock, too
        report.tickets = await self._retention.tickets(now)
        if report.tickets and not report.dry_run:
            await self._retention.forget_tickets(now)

    async def _abandon(self, report: Report) -> None:
        patience = timedelta(seconds=max(self._policy.artifacts, _LEAST_UPLOAD_SECONDS))
        async for upload in self._artifacts.uploads(datetime.now(UTC) - patience):
            report.uploads.add(upload.size or 0, upload=upload.id, modified=upload.modified.isoformat())
            if not report.dry_run:
                await self._artifacts.abandon(upload)

    async def _forget_entries(self, report: Report) -> None:
        if self._shelf is None:
            return
        async for entry in self._shelf.on_shelf(SHELF, datetime.now(UTC) - timedelta(seconds=self._policy.cache)):
            report.cached.add(entry.size, entry=entry.name.removeprefix(SHELF), modified=entry.modified.isoformat())
            if not report.dry_run:
                await self._shelf.unshelve(entry.name)

    # Bytes -----------------------------------------------------------------------------------------------------------

    async def _digests(self, rows: sa.ColumnElement[bool], since: int = 0) -> AsyncIterator[bytes]:
        """Yield every digest that Redis names, then those of these rows and of workflows stored since; many often.

        What a spilled value names is named by those who name the value.
        """
        spilled: set[str] = set()
        for texts in (self._garbage.texts(), self._retention.texts(rows), self._retention.documents(since)):
            async for text in texts:
                for found in digest_pattern.finditer(text):
                    yield bytes.fromhex(found[1])
                for digest in {found[1] for found in _SPILLED.finditer(text)} - spilled:
                    spilled.add(digest)
                    async for inner in self._within(f"sha256:{digest}"):
                        yield inner

    async def _within(self, digest: str) -> AsyncIterator[bytes]:
        """Yield the digests in kept bytes; a value that is gone names nothing."""
        text = b""
        try:
            async for block in self._artifacts.stream(digest):
                text = text[1 - _DIGEST_LENGTH :] + block
                for found in _DIGEST_BYTES.finditer(text):
                    yield bytes.fromhex(found[1].decode())
        except ArtifactNotFound:
            log.info("garbage: the spilled value %s is gone", digest)

    async def _named(self, rows: sa.ColumnElement[bool]) -> set[bytes]:
        return {digest async for digest in self._digests(rows)}

    async def _unnamed(self, named: set[bytes]) -> dict[bytes, Stored]:
        """Return old bytes whose digest was not met."""
        found: dict[bytes, Stored] = {}
        old = datetime.now(UTC) - timedelta(seconds=self._policy.artifacts)
        async for stored in self._artifacts.list(older_than=old):
            digest = bytes.fromhex(stored.digest.removeprefix("sha256:"))
            if digest not in named and len(found) < _MOST:
                found[digest] = stored
        return found

    async def _execute(self, name: str, condemned: list[Stored], report: Report) -> None:
        for start in range(0, len(condemned), _AT_ONCE):
            page = condemned[start : start + _AT_ONCE]
            gone = await asyncio.gather(*(self._delete(name, stored) for stored in page))
            for stored in (stored for stored, went in zip(page, gone, strict=True) if went):
                _count(report.artifacts, stored)

    async def _delete(self, name: str, stored: Stored) -> bool:
        """Delete condemned bytes unless they were named, put or touched since; False where they stay.

        While a deletion may still be going on (the store did not answer), `deleted` is not said: the minute passes.
        """
        asked = time.monotonic()
        began = await self._garbage.execute(name, stored.digest)
        if not began:
            return False
        try:
            same = await self._untouched(stored)
            if time.monotonic() - asked > _BEGIN_SECONDS:  # we were frozen: whoever waits may be writing by now
                return False
            if same:
                async with asyncio.timeout(_DELETE_SECONDS):
                    await self._artifacts.delete(stored.digest)
        except (StoreUnavailable, TimeoutError) as error:
            log.warning("garbage: %s stays for now: %s", stored.digest, error or "no answer")
            return False
        await self._garbage.deleted(stored.digest, began)
        return same

    async def _untouched(self, stored: Stored) -> bool:
        try:
            now = await self._artifacts.stat(stored.digest)
        except ArtifactNotFound:
            return False
        return int(now.modified.timestamp()) == int(stored.modified.timestamp())


def _count(tally: Tally, stored: Stored) -> None:
    tally.add(stored.size, digest=stored.digest, size=stored.size, modified=stored.modified.isoformat())


class Collections:
    """The loop in a control: collects every so often, one control at a time."""

    def __init__(self, collector: Collector, garbage: Garbage, every: float) -> None:
        self._collector, self._garbage, self._every = collector, garbage, every
        self._ended = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since a collection last came to its end, in any process; since our start if none ever did."""
        return time.monotonic() - self._ended

    async def run(self) -> None:
        """Collect until cancelled; returns at once where that is switched off."""
        while self._every:
            await asyncio.sleep(min(self._every, _POLL_SECONDS))
            try:
                await self._once()
            except SpindleError as error:
                log.warning("garbage: %s", error)
            except Exception:
                log.exception("garbage collection failed")

    async def _once(self) -> None:
        report = await self._collector.collect(self._every)
        if report:
            metrics.garbage_runs.inc(report.runs.count)
            metrics.garbage_artifacts.inc(report.artifacts.count)
            metrics.garbage_bytes.inc(report.artifacts.bytes + report.uploads.bytes)
            log.info("garbage: %d runs, %d artifacts", report.runs.count, report.artifacts.count)
        last = await self._garbage.last_collected()
        if last is not None:
            self._ended = time.monotonic() - max(0, await self._garbage.now() - last) / 1000
