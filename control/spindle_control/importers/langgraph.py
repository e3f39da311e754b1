"""langgraph.v1 (placeholder while being written)."""

from spindle_control.importers.builder import Builder, Path
from spindle_control.importers.outcome import Findings, Json, Options


def translate(document: Json, options: Options, findings: Findings, path: Path = ()) -> Builder:
    """Translate."""
    return Builder("langgraph")
