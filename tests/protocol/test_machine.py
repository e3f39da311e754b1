"""The protocol under virtual time: seeds, each a crowd with faults of its own; a failure names its seed."""

import pytest

from protocol.crowd import Crowd


async def test_the_promises_hold(client, seed: int) -> None:
    await Crowd(client, seed).run(250)
