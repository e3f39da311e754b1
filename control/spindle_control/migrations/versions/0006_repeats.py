"""Why a run repeats another, and by whose id it draws seeds."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("runs", sa.Column("reason", sa.String(16)))
    op.add_column("runs", sa.Column("seeds_from", sa.String(64)))


def downgrade() -> None:
    op.drop_column("runs", "seeds_from")
    op.drop_column("runs", "reason")
