"""Runs, their archived events, node types."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_OPEN = sa.text("status IN ('queued', 'running', 'paused')")


def upgrade() -> None:
    _create_runs()
    op.create_table(
        "run_events",
        sa.Column("run", sa.String(64), sa.ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("chunk", sa.Integer, primary_key=True),
        sa.Column("last_ms", sa.BigInteger, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("events", sa.JSON, nullable=False),
    )
    op.create_table(
        "node_types",
        sa.Column("type", sa.String(128), primary_key=True),
        sa.Column("first_seen", sa.BigInteger, nullable=False),
        sa.Column("description", sa.JSON, nullable=False),
    )


def _create_runs() -> None:
    op.create_table(
        "runs",
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
        sa.Column("traceparent", sa.String(64)),
        sa.Column("idempotency_key", sa.String(256)),
        sa.Column("request_digest", sa.String(80)),
        sa.Column("problem", sa.JSON),
        sa.Column("inputs", sa.JSON, nullable=False),
        sa.Column("outputs", sa.JSON),
        sa.Column("workflow", sa.JSON, nullable=False),
        sa.Column("nodes", sa.JSON),
        sa.UniqueConstraint("tenant", "idempotency_key", name="runs_idempotency"),
    )
    op.create_index("runs_newest", "runs", ["tenant", "created_at", "id"])
    op.create_index("runs_open", "runs", ["status", "owner"], sqlite_where=_OPEN, postgresql_where=_OPEN)


def downgrade() -> None:
    op.drop_table("node_types")
    op.drop_table("run_events")
    op.drop_table("runs")
