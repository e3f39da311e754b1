"""Seeds: `--protocol-seed=N` replays one, `--protocol-seeds=N` runs as many; a connection to a server of our own."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from spindle_common.connection import connect
from support.redis_server import RedisServer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        one = metafunc.config.getoption("--protocol-seed")
        count = metafunc.config.getoption("--protocol-seeds")
        metafunc.parametrize("seed", [one] if one is not None else range(count))


@pytest.fixture
async def client(quiet_server: RedisServer) -> AsyncIterator[Any]:
    """A client of an emptied server."""
    connection = connect(quiet_server.url)
    await connection.flushall()
    yield connection
    await connection.aclose()
