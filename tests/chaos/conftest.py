"""One arena for every test that breaks things: processes are dear to start, so each test mends what it broke."""

import contextlib
from collections.abc import Iterator

import pytest

from chaos.arena import Arena, opened

_SHARED = pytest.StashKey[tuple[Arena, contextlib.ExitStack]]()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Close the arena after the last test of this folder: idle, it still costs whatever runs beside it."""
    last = nextitem is None or nextitem.path.parent != item.path.parent
    if last and (shared := item.config.stash.get(_SHARED, None)):
        del item.config.stash[_SHARED]
        shared[1].close()


@pytest.fixture
def arena(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Two controls and two workers, all well; the driving control of a submission is the one it was sent to."""
    if _SHARED not in pytestconfig.stash:
        stack = contextlib.ExitStack()
        pytestconfig.stash[_SHARED] = stack.enter_context(opened(tmp_path_factory.mktemp("arena"))), stack
    shared, _ = pytestconfig.stash[_SHARED]
    shared.fill(controls=2, workers=2)
    yield shared
    shared.heal()
    shared.cancel_all()
