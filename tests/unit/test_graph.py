"""One superstep: nothing waits for more than what it needs."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spindle_common.graph import Board, Unit, build, walk

DONE = {"status": "completed", "outputs": {}}


def units(needs: dict[str, tuple[str, ...]]) -> list[Unit]:
    return [Unit(name, wanted, (name,)) for name, wanted in needs.items()]


async def walked(needs: dict[str, tuple[str, ...]], last: str = "") -> list[str]:
    """The order in which units end; `last` does not end before all others have."""
    board, order, others = Board(), [], asyncio.Event()

    async def call(name: str) -> None:
        assert board.knows(needs[name]), "started before what it needs had ended"
        await (others.wait() if name == last else asyncio.sleep(0))
        order.append(name)
        board.put({name: DONE})
        if len(order) == len(needs) - 1:
            others.set()

    async with asyncio.timeout(60):
        await walk(build(units(needs)), board, call)
    return order


async def test_the_child_of_a_fast_node_does_not_wait_for_its_slow_sibling() -> None:
    needs = {"slow": (), "fast": (), "child": ("fast",), "grandchild": ("child",)}
    order = await walked(needs, last="slow")
    assert order == ["fast", "child", "grandchild", "slow"]


@given(seed=st.integers(0, 10_000), size=st.integers(1, 25))
@settings(max_examples=40, deadline=None)
def test_every_unit_runs_once_after_what_it_needs(seed: int, size: int) -> None:
    chance = random.Random(seed)
    names = [f"n{i}" for i in range(size)]
    needs = {name: tuple(chance.sample(names[:i], chance.randint(0, min(i, 3)))) for i, name in enumerate(names)}
    order = asyncio.run(walked(needs))
    assert sorted(order) == sorted(names)
    assert all(order.index(before) < order.index(name) for name in names for before in needs[name])


async def test_what_is_known_is_not_run_again() -> None:
    board, ran = Board({"a": DONE}), []

    async def call(name: str) -> None:
        ran.append(name)
        board.put({name: DONE})

    await walk(build(units({"a": (), "b": ("a",)})), board, call)
    assert ran == ["b"]


async def test_the_first_outcome_of_a_path_counts_and_what_has_not_ended_is_no_outcome() -> None:
    board = Board({"a": {"status": "running"}})
    assert not board.knows(["a"])
    board.put({"a": DONE})
    board.put({"a": {"status": "failed"}})
    assert board.outcomes["a"] == DONE


async def test_an_error_of_the_caller_ends_the_walk() -> None:
    async def call(name: str) -> None:
        raise LookupError(name)

    with pytest.raises(LookupError):
        await walk(build(units({"a": (), "b": ()})), Board(), call)
