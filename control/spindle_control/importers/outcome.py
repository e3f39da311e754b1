"""What an import comes to: a workflow with notes, or everything that is in its way.

A `Finding` list fills while a document is read. Its codes, which never change their meaning:

    shape      wrong-type missing-key bad-id bad-link cycle too-large no-output ui-format unknown-dialect
    missing    unknown-class unknown-service not-yet no-equivalent ambiguous-model no-worker
    values     missing-input bad-literal type-mismatch bad-mapping wrong-plane
    notes      left-out ignored model-named assumed differs seed-reduced unchecked unknown-model
"""

from dataclasses import dataclass, field
from typing import Any

from spindle_common.contracts import Mistake
from spindle_common.problems import InvalidWorkflow, pointer

MAX_FOUND = 500
_MAX_TEXT = 400
Json = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What the importing person decides: `models` maps names of model files to names of models, `services` services of
    a langgraph.v1 document to node types (see `langgraph`).
    """

    models: dict[str, str] = field(default_factory=dict)
    services: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Imported:
    """A Spindle workflow, and what its author should know: mistakes of severity `warning` in the foreign document."""

    workflow: Json
    notes: tuple[Mistake, ...] = ()
    dialect: str = ""


class TooMuchFound(Exception):
    """So much is wrong that looking further helps nobody."""


class Findings:
    """Everything found wrong or noteworthy, each once, in the order in which it was found."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], Mistake] = {}

    def error(self, path: tuple[str | int, ...], code: str, detail: str, hint: str | None = None) -> None:
        """Note what is in the way; `path` leads to it in the foreign document."""
        more: Any = _hinted(hint)
        self._add(Mistake(pointer=pointer(*path), code=code, detail=_cut(detail), **more))

    def note(self, path: tuple[str | int, ...], code: str, detail: str, hint: str | None = None) -> None:
        """Note what the author should know."""
        more: Any = _hinted(hint)
        self._add(Mistake(pointer=pointer(*path), code=code, detail=_cut(detail), severity="warning", **more))

    def take(self, mistake: Mistake) -> None:
        """Take over a mistake that was found elsewhere."""
        self._add(mistake)

    def _add(self, mistake: Mistake) -> None:
        if len(self._found) >= MAX_FOUND:
            raise TooMuchFound
        self._found.setdefault((mistake.pointer, mistake.code, mistake.detail), mistake)

    @property
    def errors(self) -> tuple[Mistake, ...]:
        """What is in the way."""
        return tuple(found for found in self._found.values() if found.severity == "error")

    @property
    def notes(self) -> tuple[Mistake, ...]:
        """What is not."""
        return tuple(found for found in self._found.values() if found.severity == "warning")

    def refusal(self, what: str) -> InvalidWorkflow:
        """Build the problem that lists everything."""
        count = len(self.errors)
        detail = f"{what} cannot be imported: {count} {'thing is' if count == 1 else 'things are'} in the way"
        return InvalidWorkflow(detail, errors=(*self.errors, *self.notes))


def _hinted(hint: str | None) -> dict[str, str]:
    return {} if hint is None else {"hint": _cut(hint)}


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"


def shown(value: object) -> str:
    """Return a value as it may stand in a sentence."""
    text = repr(value[:60]) if isinstance(value, str) else repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
