"""Fixtures that every kind of test shares: a real Redis-compatible server, private to this run.

`./dev test` runs the suite in three processes (pytest-xdist). The tests of a file stay together and in order, since
they share servers; those of tests/chaos are one unit of work and the first, since they share an arena and mostly wait:
two cores have enough to do beside them.

A test that failed while the machine itself stood still is run again, twice at most, and the closing line counts it.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from spindle_common.connection import connect
from spindle_common.queue import Queue
from support.metronome import METRONOME
from support.redis_server import RedisServer, started

# A busy machine is no mistake of the code: what an example takes says nothing, and a test has its time limit.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--protocol-seed", type=int, help="replay one seed of tests/protocol")
    parser.addoption("--protocol-seeds", type=int, default=16, help="how many seeds tests/protocol runs")


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Hands out whole files; all files of tests/chaos together."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "tests/chaos" if file.startswith("tests/chaos/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Say which tests go to the same process."""
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.flaky(reruns=2, condition=METRONOME.stood_still))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    METRONOME.begin()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for tests of the API, all of whose controls see the one worker of tests/integration/conftest.py."""
    with started(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def quiet_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that no worker or control of another test speaks to; a test begins by emptying it."""
    with started(tmp_path_factory.mktemp("quiet")) as server:
        yield server


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for the tests of one file, with workers of their own."""
    with started(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def fresh_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for one test, which may kill it."""
    with started(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def queue(quiet_server: RedisServer) -> AsyncIterator[Queue]:
    """The task protocol on an emptied server, where nobody but the test takes tasks."""
    client = connect(quiet_server.url)
    await client.flushall()
    yield Queue(client)
    await client.aclose()
