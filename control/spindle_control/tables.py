"""The database's tables: what was accepted, how it ended, archived events, node types, tickets, stored workflows.

Times are milliseconds since 1970 (UTC); JSON is kept as text, so that key order survives. A run's archived events lie
in chunks that know their last cursor, so that a page reads only the chunks it needs. Large columns stand last: SQLite
then reads the small ones without touching overflow pages.
"""

import sqlalchemy as sa

from spindle_common.problems import InvalidRequest

metadata = sa.MetaData()

OPEN = ("queued", "running", "paused")
ENDED = ("completed", "failed", "cancelled")

json_or_null = sa.JSON(none_as_null=True)
_due = sa.text("wake_at IS NOT NULL")
_open = sa.text("status IN ('queued', 'running', 'paused')")

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("owner", sa.String(128)),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("started_at", sa.BigInteger),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("name", sa.String(256), nullable=False),
    sa.Column("workflow_digest", sa.String(80), nullable=False),
    sa.Column("workflow_version", sa.Integer),
    sa.Column("parent", sa.String(64)),
    sa.Column("reason", sa.String(16)),
    sa.Column("seeds_from", sa.String(64)),
    sa.Column("wake_at", sa.BigInteger),
    sa.Column("traceparent", sa.String(64)),
    sa.Column("idempotency_key", sa.String(256)),
    sa.Column("request_digest", sa.String(80)),
    sa.Column("problem", json_or_null),
    sa.Column("inputs", sa.JSON, nullable=False),
    sa.Column("outputs", json_or_null),
    sa.Column("workflow", sa.JSON, nullable=False),
    sa.Column("nodes", json_or_null),
    sa.Column("parked", json_or_null),
    sa.UniqueConstraint("tenant", "idempotency_key", name="runs_idempotency"),
    sa.Index("runs_due", "wake_at", sqlite_where=_due, postgresql_where=_due),
    sa.Index("runs_newest", "tenant", "created_at", "id"),
    sa.Index("runs_open", "status", "owner", sqlite_where=_open, postgresql_where=_open),
)

run_events = sa.Table(
    "run_events",
    metadata,
    sa.Column("run", sa.String(64), sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("chunk", sa.Integer, primary_key=True),
    sa.Column("last_ms", sa.BigInteger, nullable=False),
    sa.Column("last_seq", sa.BigInteger, nullable=False),
    sa.Column("events", sa.JSON, nullable=False),
)

node_types = sa.Table(
    "node_types",
    metadata,
    sa.Column("type", sa.String(128), primary_key=True),
    sa.Column("first_seen", sa.BigInteger, nullable=False),
    sa.Column("description", sa.JSON, nullable=False),
)

tickets = sa.Table(
    "tickets",
    metadata,
    sa.Column("hash", sa.String(64), primary_key=True),
    sa.Column("tenant", sa.String(64), nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
)

workflows = sa.Table(
    "workflows",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),  # the newest
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("description", sa.String(4000)),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("hidden", sa.Boolean, nullable=False),
    sa.Index("workflows_newest", "tenant", "updated_at", "name"),
)

workflow_versions = sa.Table(
    "workflow_versions",
    metadata,
    sa.Column("tenant", sa.String(64), primary_key=True),
    sa.Column("name", sa.String(64), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.String(80), nullable=False),
    sa.Column("size", sa.Integer, nullable=False),  # bytes of the canonical document
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("description", sa.String(4000)),
    sa.Column("document", sa.JSON, nullable=False),
)


def cursor(event_id: str) -> tuple[int, int]:
    """Split an event's id `ms-seq` into its two integers."""
    ms, _, seq = event_id.partition("-")
    if not (ms.isdecimal() and seq.isdecimal() and ms.isascii() and seq.isascii() and len(event_id) <= 40):
        raise InvalidRequest(f"{event_id[:80]!r} is not an event id; it looks like 1700000000000-0.")
    return int(ms), int(seq)
