"""When a parked run must go on by itself: the first deadline of an answer that it waits for."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
_due = sa.text("wake_at IS NOT NULL")


def upgrade() -> None:
    op.add_column("runs", sa.Column("wake_at", sa.BigInteger))
    op.create_index("runs_due", "runs", ["wake_at"], sqlite_where=_due, postgresql_where=_due)


def downgrade() -> None:
    op.drop_index("runs_due", "runs")
    op.drop_column("runs", "wake_at")
