"""One arena for every test that breaks things: processes are dear to start, so each test mends what it broke."""

from collections.abc import Iterator

import pytest

from chaos.arena import Arena
from support.radosgw import Missing, S3Server, packages, start


@pytest.fixture(scope="session")
def chaos_store() -> Iterator[S3Server | None]:
    """A real S3 server of our own, to be killed; None where it cannot be had."""
    try:
        running = start(packages())
    except Missing:
        yield None
        return
    yield running.server
    running.close()


@pytest.fixture(scope="session")
def shared_arena(tmp_path_factory: pytest.TempPathFactory, chaos_store: S3Server | None) -> Iterator[Arena]:
    opened = Arena(tmp_path_factory.mktemp("arena"), store=chaos_store)
    yield opened
    opened.close()


@pytest.fixture
def arena(shared_arena: Arena) -> Iterator[Arena]:
    """Two controls and two workers, all well; the driving control of a submission is the one it was sent to."""
    shared_arena.fill(controls=2, workers=2)
    yield shared_arena
    shared_arena.heal()
    shared_arena.cancel_all()
