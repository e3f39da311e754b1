"""Where the repository's files are, for tests that check configuration."""

import json
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


def text_of(path: str) -> str:
    """Return the text of a file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


def yaml_of(path: str) -> dict[str, Any]:
    """Return a YAML mapping, its anchors and merges resolved."""
    document = yaml.safe_load(text_of(path))
    assert isinstance(document, dict)
    return document


def json_of(path: str) -> dict[str, Any]:
    """Return a JSON object."""
    document = json.loads(text_of(path))
    assert isinstance(document, dict)
    return document
