"""What the contracts of the database share: a store on SQLite and, where its programs are installed, on PostgreSQL."""

import importlib.util
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from spindle_control.store import Store
from support.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    if missing := Postgres.missing():
        pytest.skip(f"PostgreSQL's {missing} is not installed")
    if importlib.util.find_spec("asyncpg") is None:
        pytest.skip("asyncpg is not installed")
    server = Postgres()
    try:
        server.start()
        yield server
        server.stop()
    finally:
        server.close()


@pytest.fixture(params=["sqlite", "postgres"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'spindle.db'}"
    server: Postgres = request.getfixturevalue("postgres")
    await server.empty()
    return server.url


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    opened = await Store.open(database_url)
    yield opened
    await opened.close()
