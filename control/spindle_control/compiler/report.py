"""The list of mistakes that a check fills: each once, none lost, and no more work than a hostile document deserves.

What the check does is paid for here, before it is done (`work`); once too much was wanted, that is the last mistake.
A hint may name what was probably meant. Comparing names is dear, so only the likeliest are compared, and a report has
a budget for that; beyond it hints are plainer.
"""

import difflib
import heapq
from bisect import bisect_left, insort
from collections.abc import Collection
from itertools import pairwise
from typing import Literal

from spindle_common.contracts import Mistake
from spindle_common.expressions import Expression
from spindle_common.problems import pointer as to_pointer
from spindle_control.compiler.work import MISTAKE, Work, pointer_cost

MAX_MISTAKES = 1000
_MAX_HINTS = 10_000
_MAX_COMPARED = 4
_MAX_DETAIL = 400


class ReportFull(Exception):
    """So much is wrong that looking further helps nobody."""


class Report:
    """Mistakes and warnings in the order in which they were found; raises ReportFull when there is no end of them."""

    def __init__(self, work: Work | None = None) -> None:
        self._found: dict[tuple[str, str, str], Mistake] = {}
        self._places: list[str] = []
        self.expressions: dict[str, Expression] = {}
        self.work = work or Work()
        self._hints = _MAX_HINTS
        self._pairs: dict[str, frozenset[str]] = {}

    def add(
        self,
        pointer: str,
        code: str,
        detail: str,
        hint: str | None = None,
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        """Note a mistake; `pointer` is a JSON Pointer to the offending value."""
        if len(self._found) >= MAX_MISTAKES:
            detail = f"only the first {MAX_MISTAKES} mistakes are shown"
            self._found["", "too-many-mistakes", ""] = Mistake(pointer="", code="too-many-mistakes", detail=detail)
            raise ReportFull
        key = (pointer, code, detail)
        if key not in self._found:
            extra = {} if hint is None else {"hint": shorten(hint)}
            self._found[key] = Mistake(pointer=pointer, code=code, detail=shorten(detail), severity=severity, **extra)
            if severity == "error":
                insort(self._places, pointer)
            self.spend(MISTAKE + pointer_cost(pointer), "mistakes")

    def tells_of(self, pointer: str) -> bool:
        """Whether something at a place, or below it, was found wrong."""
        return any(
            at < len(self._places) and (self._places[at] == pointer or self._places[at].startswith(f"{pointer}/"))
            for at in (bisect_left(self._places, pointer), bisect_left(self._places, f"{pointer}/"))
        )

    def warn(self, pointer: str, code: str, detail: str, hint: str | None = None) -> None:
        """Note what does not keep the workflow from being taken."""
        self.add(pointer, code, detail, hint, "warning")

    def nearest(self, word: str, known: Collection[str]) -> str | None:
        """Return the known name that looks most like `word`, if one does."""
        self._hints -= 2 * len(known) + len(word) ** 2 // 2
        if self._hints < 0 or not known or len(word) > 128:
            return None
        close = difflib.get_close_matches(word, self._likeliest(word, known), n=1, cutoff=0.6)
        return close[0] if close else None

    def _likeliest(self, word: str, known: Collection[str]) -> list[str]:
        """Return the few names that share the most pairs of letters with a word, which is cheap to say."""
        pairs, least, most = _pairs(word), len(word) * 3 // 7, len(word) * 7 // 3
        shared = []
        for at, name in enumerate(known):
            if least <= len(name) <= most:
                own = self._pairs.get(name) or self._pairs.setdefault(name, _pairs(name))
                shared.append((-len(pairs & own), at, name))
        return [name for _, _, name in heapq.nsmallest(_MAX_COMPARED, shared)]

    def meant(self, word: str, known: Collection[str], otherwise: str | None = None) -> str | None:
        """Return a hint: the nearest name, or all of a few."""
        near = self.nearest(word, known)
        if near is not None:
            return f"did you mean `{near}`?"
        if 0 < len(known) <= 12:
            return "there are: " + ", ".join(sorted(known))
        return otherwise

    def spend(self, units: int, what: str) -> None:
        """Pay for a part of the check. Raises ReportFull once the whole takes too much."""
        if not self.work.spend(units, what):
            (most, _), *_ = self.work.by.most_common(1)
            self._found["", "too-large", "work"] = Mistake(
                pointer="",
                code="too-large",
                detail=f"it is too much to check at once, by its {most} above all",
                hint="leave out what it can do without, or make several workflows of it",
            )
            raise ReportFull

    @property
    def count(self) -> int:
        """How many mistakes were found, warnings aside."""
        return len(self._places)

    @property
    def errors(self) -> tuple[Mistake, ...]:
        """What keeps the workflow from being taken."""
        return tuple(found for found in self._found.values() if found.severity == "error")

    @property
    def warnings(self) -> tuple[Mistake, ...]:
        """What the author should know."""
        return tuple(found for found in self._found.values() if found.severity == "warning")


def _pairs(word: str) -> frozenset[str]:
    return frozenset(map("".join, pairwise(word))) | {word[:1]}


class Silence(Report):
    """Takes no note of anything, and spends nothing on hints."""

    def add(
        self,
        pointer: str,
        code: str,
        detail: str,
        hint: str | None = None,
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        """Note nothing."""

    def nearest(self, word: str, known: Collection[str]) -> str | None:
        """Look for nothing."""
        return None


def below(pointer: str, key: str) -> str:
    """Return the JSON Pointer of what stands under `key`."""
    return f"{pointer}/{key}" if "/" not in key and "~" not in key else pointer + to_pointer(key)


def shorten(text: str, limit: int = _MAX_DETAIL) -> str:
    """Cut a text that may hold what a user sent."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def shown(value: object, limit: int = 60) -> str:
    """Return a value as it may stand in a sentence."""
    return shorten(repr(value[:limit]) if isinstance(value, str) else repr(value), limit)
