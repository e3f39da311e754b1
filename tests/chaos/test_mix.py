"""The random mix, for as long as CI has time for it; ./dev chaos SECONDS SEED runs it for as long as one likes.

SPINDLE_CHAOS_SECONDS and SPINDLE_CHAOS_SEED choose. The seed of CI is fixed, so that a red run speaks of the change
rather than of the draw; the recipe draws a new one each time, and prints it.
"""

import os
import shutil
from pathlib import Path

import pytest

from chaos.arena import Arena
from chaos.checker import violations
from chaos.history import History
from chaos.mix import mix, verdict

SECONDS = float(os.environ.get("SPINDLE_CHAOS_SECONDS", "240"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS + 600)]


async def test_a_random_mix_keeps_every_promise(arena: Arena, tmp_path: Path) -> None:
    seed = int(os.environ.get("SPINDLE_CHAOS_SEED", "101"))
    history = History(tmp_path / "history.jsonl")
    try:
        case = await mix(arena, history, SECONDS, seed)
    finally:
        history.close()
    found = violations(case)
    text = f"seed {seed}, {SECONDS:g} s\n{verdict(case, found)}"
    print(text)
    if found:
        shutil.copytree(arena.folder, tmp_path / "arena", ignore=shutil.ignore_patterns("redis", "artifacts"))
    assert not found, f"kept in {tmp_path}\n{text}"
