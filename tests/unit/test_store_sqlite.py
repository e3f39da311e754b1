"""The store on a SQLite file: what may go wrong with it."""

import contextlib
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from spindle_common.problems import Unavailable
from spindle_control import migrations
from spindle_control.store import Store
from spindle_control.tables import metadata
from support.rows import a_run


def url(folder: Path) -> str:
    return f"sqlite+aiosqlite:///{folder / 'spindle.db'}"


async def test_a_missing_folder_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable):
        await Store.open(url(tmp_path / "nowhere"))


async def test_a_broken_database_is_unavailable(tmp_path: Path) -> None:
    store = await Store.open(url(tmp_path))
    with contextlib.closing(sqlite3.connect(tmp_path / "spindle.db")) as connection:
        connection.execute("DROP TABLE run_events")
        connection.execute("DROP TABLE runs")
    with pytest.raises(Unavailable):
        await store.run("r1")
    with pytest.raises(Unavailable):
        await store.insert_run(a_run())
    await store.check()
    await store.close()


async def test_the_file_is_in_wal_mode_and_fully_migrated(tmp_path: Path) -> None:
    await (await Store.open(url(tmp_path))).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "spindle.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (migrations.newest(),)


def test_the_newest_version_is_the_one_that_alembic_takes_for_its_head() -> None:
    folder = Path(migrations.__file__).parent
    assert ScriptDirectory(str(folder)).get_current_head() == migrations.newest()


async def test_migrations_make_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    await (await Store.open(url(tmp_path))).close()
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'spindle.db'}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
