"""The list of mistakes that a check fills: each once, none lost, and no more work than a hostile document deserves.

A hint may name what was probably meant. Comparing names is dear, so a report has a budget of comparisons; beyond it
hints are plainer.
"""

import difflib
from collections.abc import Collection
from typing import Literal

from spindle_common.contracts import Mistake
from spindle_common.expressions import Expression
from spindle_common.problems import pointer as to_pointer

MAX_MISTAKES = 1000
_MAX_COMPARISONS = 4000
_MAX_EXPRESSION_PARTS = 12_000
_MAX_DETAIL = 400


class ReportFull(Exception):
    """So much is wrong that looking further helps nobody."""


class Report:
    """Mistakes and warnings in the order in which they were found; raises ReportFull when there is no end of them."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], Mistake] = {}
        self._comparisons = _MAX_COMPARISONS
        self.expressions: dict[str, Expression] = {}
        self._expression_parts = _MAX_EXPRESSION_PARTS

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

    def tells_of(self, pointer: str) -> bool:
        """Whether something at a place, or below it, was found wrong."""
        return any(found.pointer == pointer or found.pointer.startswith(f"{pointer}/") for found in self.errors)

    def warn(self, pointer: str, code: str, detail: str, hint: str | None = None) -> None:
        """Note what does not keep the workflow from being taken."""
        self.add(pointer, code, detail, hint, "warning")

    def nearest(self, word: str, known: Collection[str]) -> str | None:
        """Return the known name that looks most like `word`, if one does."""
        if not known or len(known) > self._comparisons or len(word) > 128:
            return None
        self._comparisons -= len(known)
        close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
        return close[0] if close else None

    def meant(self, word: str, known: Collection[str], otherwise: str | None = None) -> str | None:
        """Return a hint: the nearest name, or all of a few."""
        near = self.nearest(word, known)
        if near is not None:
            return f"did you mean `{near}`?"
        if 0 < len(known) <= 12:
            return "there are: " + ", ".join(sorted(known))
        return otherwise

    def spend_on_expressions(self, parts: int) -> None:
        """Note that so many parts of CEL were parsed, which takes about 10 µs each. Raises ReportFull if too many."""
        self._expression_parts -= parts
        if self._expression_parts < 0:
            detail = f"its expressions have more than {_MAX_EXPRESSION_PARTS} names, numbers and signs together"
            self.add("", "too-large", detail, "compute more in nodes")
            raise ReportFull

    @property
    def errors(self) -> tuple[Mistake, ...]:
        """What keeps the workflow from being taken."""
        return tuple(found for found in self._found.values() if found.severity == "error")

    @property
    def warnings(self) -> tuple[Mistake, ...]:
        """What the author should know."""
        return tuple(found for found in self._found.values() if found.severity == "warning")


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
