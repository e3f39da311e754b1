"""A script for each step: all that the step needs, and not what it does not."""

import re

import pytest

from spindle_common.queue import SCRIPT
from spindle_common.scripts import Scripts

SMALL = """--[[ What it is.

local function not_one() end
]]
local P, CALL = 'p:', redis.call

-- of them all
local later
local TABLE = {
  a = 1,
}
local ops = {}

local function helper(x)
  return later(x) + TABLE.a
end

function later(x)
  return CALL('GET', P .. x)
end

function ops.big()
  return helper(1) + ops.other()
end

function ops.other()
  return 2
end

function ops.small()
  return 3
end

return ops[ARGV[1]]()
"""


def test_a_script_has_what_its_step_needs_in_the_files_order() -> None:
    scripts = Scripts(SMALL)
    assert scripts.steps == ["big", "other", "small"]
    assert scripts.of("small").text.splitlines() == [
        "local ops = {}",
        "function ops.small()",
        "  return 3",
        "end",
        "return ops[ARGV[1]]()",
    ]
    defined = re.findall(r"^(?:local )?(?:function )?([\w.]+)", scripts.of("big").text, re.MULTILINE)
    assert [name for name in defined if name not in ("end", "return")] == [
        "P",
        "later",
        "TABLE",
        "ops",
        "helper",
        "later",
        "ops.big",
        "ops.other",
    ]
    assert len({scripts.of(step).sha for step in ("big", "other", "small")}) == 3


def test_what_cannot_be_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="no step nothing"):
        Scripts(SMALL).of("nothing")
    with pytest.raises(ValueError, match="no function and no local: for"):
        Scripts(SMALL.replace("local later", "for i = 1, 2 do\n  x()\nend"))


DEFINED = frozenset(re.findall(r"^(?:local )?function ([\w.]+)", SCRIPT, re.MULTILINE))


@pytest.mark.parametrize("step", Scripts(SCRIPT).steps)
def test_no_step_calls_what_its_script_lacks(step: str) -> None:
    text = Scripts(SCRIPT).of(step).text
    there = set(re.findall(r"^(?:local )?function ([\w.]+)", text, re.MULTILINE))
    called = set(re.findall(r"(?<![.\w])([a-z_]+|ops\.\w+)\(", text)) & DEFINED
    assert called <= there
    assert len(text) < len(SCRIPT) * 0.6


def test_a_step_that_does_little_is_a_small_script() -> None:
    assert len(Scripts(SCRIPT).of("idle").text) < 1000
