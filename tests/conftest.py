"""Fixtures that every kind of test shares: a real Redis-compatible server, private to this run."""

from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from spindle_common.queue import Queue, connect
from support.redis_server import RedisServer

# A busy machine is no mistake of the code: what an example takes says nothing, and a test has its time limit.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--protocol-seed", type=int, help="replay one seed of tests/protocol")
    parser.addoption("--protocol-seeds", type=int, default=16, help="how many seeds tests/protocol runs")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def quiet_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that no worker or control of another test speaks to."""
    server = RedisServer(tmp_path_factory.mktemp("quiet"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def queue(quiet_server: RedisServer) -> AsyncIterator[Queue]:
    """The task protocol on an emptied server, where nobody but the test takes tasks."""
    client = connect(quiet_server.url)
    await client.flushall()
    yield Queue(client)
    await client.aclose()
