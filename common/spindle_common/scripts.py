"""Cuts the one file of steps into a script for each step, which holds only what that step needs.

    spindle.lua -> its statements -> those that a step names, those that these name … in their order -> a script

Redis runs a script from its first line each time it is called. Defining a hundred functions of which a step calls five
costs it 0.1 ms, more than most steps do; it serves nobody else meanwhile.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

_HEADER = re.compile(r"\A--\[\[.*?\]\]\n", re.DOTALL)
_FIRST = re.compile(r"^(?:local function|function|local|return) ")
_NAMED = re.compile(r"^(?:local )?function ([\w.]+)|^local ((?:\w+, )*\w+)")
_GOES_ON = re.compile(r"^(?:\s|end$|[\])}])")
_WORD = re.compile(r"ops\.\w+|\w+")


class Script(NamedTuple):
    """A step's text, and the digest by which Redis knows it."""

    text: str
    sha: str


class _Statement(NamedTuple):
    """A statement of the file that stands at its left edge."""

    names: tuple[str, ...]
    words: frozenset[str]
    text: str


class Scripts:
    """The steps of one file. At its left edge stand functions and locals, their ends, comments and the call at last."""

    def __init__(self, source: str) -> None:
        """Read the file. Raises ValueError where anything else stands at its left edge."""
        *self._statements, self._last = map(_read, _statements(_HEADER.sub("", source)))
        self._made: dict[str, Script] = {}

    @property
    def steps(self) -> list[str]:
        """Names of all steps."""
        names = (name for each in self._statements for name in each.names)
        return [name.removeprefix("ops.") for name in names if name.startswith("ops.")]

    def of(self, step: str) -> Script:
        """Return the script of a step. Raises ValueError for one that there is not."""
        if step not in self._made:
            text = "\n".join([each.text for each in self._needed(step)] + [self._last.text])
            self._made[step] = Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
        return self._made[step]

    def _needed(self, step: str) -> list[_Statement]:
        """What a step names, at any depth; a word in a comment or a text may bring more than that, never less."""
        if step not in self.steps:
            raise ValueError(f"there is no step {step}")
        words, needed = {f"ops.{step}", *self._last.words}, set[int]()
        while new := {at for at, each in enumerate(self._statements) if at not in needed and words & {*each.names}}:
            needed |= new
            words = words.union(*(self._statements[at].words for at in new))
        return [self._statements[at] for at in sorted(needed)]


@cache
def scripts_in(source: str) -> Scripts:
    """Read a file of steps, once."""
    return Scripts(source)


def _statements(source: str) -> Iterator[str]:
    lines: list[str] = []
    for line in source.splitlines():
        if not line or line.startswith("--"):
            continue
        if _FIRST.match(line) and lines:
            yield "\n".join(lines)
            lines = []
        elif not (_FIRST.match(line) or _GOES_ON.match(line)):
            raise ValueError(f"this is no function and no local: {line}")
        lines.append(line)
    yield "\n".join(lines)


def _read(text: str) -> _Statement:
    found = _NAMED.match(text)
    names = () if found is None else tuple((found[1] or found[2]).split(", "))
    return _Statement(names, frozenset(_WORD.findall(text)), text)
