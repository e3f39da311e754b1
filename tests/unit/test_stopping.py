"""Ending coroutines for certain, those that end others too."""

import asyncio

import pytest

from spindle_common import stopping
from spindle_common.stopping import stop


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_AGAIN_SECONDS", 0.05)


async def test_one_that_does_not_hear_is_told_again() -> None:
    heard = 0

    async def deaf() -> None:
        nonlocal heard
        while heard < 3:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                heard += 1

    task = asyncio.ensure_future(deaf())
    await asyncio.sleep(0)
    await stop([task])
    assert (task.done(), heard) == (True, 3)


async def test_who_is_told_again_while_stopping_others_stops_them_all_the_same() -> None:
    ended = []

    async def slow() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            until = asyncio.get_running_loop().time() + 0.2
            while asyncio.get_running_loop().time() < until:
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    continue
            ended.append("inner")

    async def outer() -> None:
        inner = asyncio.ensure_future(slow())
        try:
            await asyncio.sleep(10)
        finally:
            await stop([inner])
            ended.append("outer's own")

    task = asyncio.ensure_future(outer())
    await asyncio.sleep(0.01)
    await stop([task])
    assert ended[0] == "inner"
    assert task.cancelled()


async def test_what_they_raise_is_dropped() -> None:
    async def bad() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            raise ValueError("no")

    task = asyncio.ensure_future(bad())
    await asyncio.sleep(0)
    await stop([task])
    assert isinstance(task.exception(), ValueError)
