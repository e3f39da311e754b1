"""What a paused run is made of while nothing of it is in Redis."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("runs", sa.Column("parked", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    op.drop_column("runs", "parked")
