"""Reading a workflow: a JSON document, a submission ({"workflow", "inputs"}), or a PNG that `image.save` made.

Such a PNG keeps under the keyword `spindle` what it takes to make it again:
{"schema": "spindle.provenance/v1", "workflow": {…}, "inputs": {…}, "seeds_from": "run"}.
Seeds that were drawn are written into the workflow; those inside bodies, which differ from item to item, are drawn by
the id of the run `seeds_from`.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spindle_control.cli.session import Refusal
from spindle_control.png import SIGNATURE, BadPng, text_of

KEYWORD = "spindle"
PROVENANCE = "spindle.provenance/v1"


@dataclass(frozen=True, slots=True)
class Submission:
    """A workflow, the inputs that came with it, and the run whose drawn seeds make the same again."""

    workflow: dict[str, Any]
    inputs: dict[str, Any] = field(default_factory=dict)
    seeds_from: str | None = None

    @property
    def input_specs(self) -> dict[str, Any]:
        """Return what the workflow says about its inputs, as far as it can be read."""
        specs = self.workflow.get("inputs")
        return specs if isinstance(specs, dict) else {}

    @property
    def name(self) -> str:
        """Return the name for people."""
        name = self.workflow.get("name")
        return name if isinstance(name, str) else "untitled"


def read(file: str) -> Submission:
    """Read a workflow from a file, or from standard input for `-`; raises Refusal."""
    content = _content(file)
    if content.startswith(SIGNATURE):
        return _from_png(file, content)
    document = _parsed(file, content)
    if isinstance(document.get("workflow"), dict) and "nodes" not in document:
        return _submission(document)
    return Submission(document)


def read_json(file: str) -> dict[str, Any]:
    """Read a JSON object from a file, or from standard input for `-`; raises Refusal."""
    return _parsed(file, _content(file))


def _content(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise Refusal(f"Cannot read {file}: {error.strerror}.") from None


def _from_png(file: str, content: bytes) -> Submission:
    try:
        text = text_of(content, KEYWORD)
    except BadPng as error:
        raise Refusal(f"Cannot read {file}: {error}.") from None
    if text is None:
        raise Refusal(
            f"{file} holds no workflow.",
            "Only pictures made by the node type `image.save` carry the one that made them.",
        )
    document = _parsed(f"the workflow in {file}", text.encode())
    if document.get("schema") != PROVENANCE or not isinstance(document.get("workflow"), dict):
        raise Refusal(f"{file} holds a workflow of a kind that this version does not know: {document.get('schema')!r}.")
    return _submission(document)


def _submission(document: dict[str, Any]) -> Submission:
    inputs = document.get("inputs")
    seeds = document.get("seeds_from")
    given = dict(inputs) if isinstance(inputs, dict) else {}
    return Submission(document["workflow"], given, seeds if isinstance(seeds, str) else None)


def _parsed(what: str, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except json.JSONDecodeError as error:
        raise Refusal(f"{what} is not JSON: {error.msg}, line {error.lineno}, column {error.colno}.") from None
    except (UnicodeDecodeError, RecursionError):
        raise Refusal(f"{what} is not JSON.") from None
    if not isinstance(document, dict):
        raise Refusal(f"{what} is no workflow: a JSON object is needed.")
    return document
