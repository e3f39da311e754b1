"""The promises under virtual time: each seed is a crowd with faults of its own.

./dev pytest tests/protocol --protocol-seed=N        replays one
./dev pytest tests/protocol --protocol-seeds=N       runs 0 … N-1 (16 by default)
"""

from pathlib import Path
from typing import Any

import pytest

from protocol.crowd import Crowd
from protocol.world import Violation, load
from spindle_common.queue import SCRIPT
from support.virtual_time import settable

STORM = 250
V1 = Path(__file__).parents[1] / "contract" / "golden" / "v1" / "redis" / "spindle.lua"


async def test_the_promises_hold(client: Any, seed: int) -> None:
    crowd = Crowd(client, seed)
    await crowd.run(STORM)
    assert crowd.db.rows, "it did something"


@pytest.mark.parametrize("mixed", range(1000, 1006))
async def test_workers_of_the_version_before_may_take_part(client: Any, mixed: int) -> None:
    old = settable(V1.read_text())
    await load(client, old)
    await Crowd(client, mixed, old=old).run(STORM)


LIKELY = (0, 1, 22, 5)
"""Seeds that have caught something, tried first to save time; the quick ones first."""
# name: the text that is exchanged, by what
MUTANTS = {
    "fence": ("  if t[2] ~= attempt or t[3] ~= nonce then return nil, refuse() end\n", ""),
    "epoch": ("  if r[2] ~= epoch then return refuse() end\n  if r[1] == 'parking'", "  if r[1] == 'parking'"),
    "a node ends twice": ("  if TERMINAL[status_of(old)] then return false end\n", ""),
    "a run ends twice": ("  if TERMINAL[r[1]] or r[1] == 'parking' then return r[1] end\n", ""),
    "told twice": (
        "  emit(run, 'node.started', path, attempt, '{}')\n",
        "  emit(run, 'node.started', path, attempt, '{}')\n" * 2,
    ),
    "untold": (
        "  emit(run, 'node.' .. (status",
        "  if status == 'failed' then return kept end\n  emit(run, 'node.' .. (status",
    ),
    "the lease stays": ("    call('ZREM', P .. 'leases', task)\n    leave_stream(", "    leave_stream("),
    "the entry stays": ("  leave_stream(key)\n  local past", "  local past"),
    "no pump after a commit": (
        "leave_stream(P .. 'task:' .. task)\n    pump(t.queue)\n",
        "leave_stream(P .. 'task:' .. task)\n",
    ),
    "left in its form's stream": ("drop_entry(stream_of(t[2], t[3]), t[1])", "drop_entry(stream_of(t[2]), t[1])"),
    "slots stay": ("    call('HINCRBY', P .. 'slots', queue, -count)\n", ""),
    "no lapse": ("then interrupted(task, key, 'crash', ARGV[3]) end", "then return {0, 0, 0} end"),
    "held for ever": ("HGET', task, 'state') == 'held' then", "HGET', task, 'state') == 'never' then"),
    "a waiter is forgotten": (
        "  for _, waiter in ipairs(waiters) do rouse(waiter) end\n",
        "  for _, waiter in ipairs(waiters) do unwait(waiter, P .. 'task:' .. waiter) end\n",
    ),
    "two fly": ("    elseif leader and leader ~= task then\n", "    elseif false then\n"),
    "dispatched again": ("if call('HSETNX', key, 'run', run) == 1 then", "if call('HSET', key, 'run', run) >= 0 then"),
}


@pytest.mark.parametrize("name", MUTANTS)
async def test_a_broken_script_is_caught(client: Any, name: str) -> None:
    right, wrong = MUTANTS[name]
    assert SCRIPT.count(right) == 1, "the script changed: mend the mutant"
    for seed in (*LIKELY, *range(30)):
        try:
            await Crowd(client, seed, script=SCRIPT.replace(right, wrong)).run(STORM)
        except Violation:
            return
    pytest.fail("nobody noticed")
