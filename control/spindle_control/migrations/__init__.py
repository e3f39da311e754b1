"""Schema migrations (Alembic), run when a control starts.

Several controls may start together on one database: on SQLite the connection already holds the write lock
(BEGIN IMMEDIATE), on PostgreSQL a transaction-wide advisory lock is taken first; the second control then finds nothing
left to do, and need not even import Alembic (0.4 s). Versions are files in the order of their names.
"""

from pathlib import Path

import sqlalchemy as sa

_LOCK = 0x5350494E  # "SPIN": any number that only we use
_FOLDER = Path(__file__).parent


def upgrade(connection: sa.Connection) -> None:
    """Bring the database behind an open transaction to the newest schema."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    if _version(connection) != newest():
        _upgrade(connection)


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()


def newest() -> str:
    """The version to which `upgrade` brings a database."""
    return max(path.name for path in (_FOLDER / "versions").glob("[0-9]*.py")).partition("_")[0]


def _upgrade(connection: sa.Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
