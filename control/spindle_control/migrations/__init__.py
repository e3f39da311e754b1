"""Schema migrations (Alembic), run when a control starts.

Several controls may start together on one database: on SQLite the connection already holds the write lock
(BEGIN IMMEDIATE), on PostgreSQL a transaction-wide advisory lock is taken first; the second control then finds nothing
left to do.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

_LOCK = 0x5350494E  # "SPIN": any number that only we use


def upgrade(connection: sa.Connection) -> None:
    """Bring the database behind an open transaction to the newest schema."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
