"""Secrets: a folder with one file each, as container runtimes mount them. Their values are never stored or shown."""

import re
from pathlib import Path

from spindle_common.problems import BadInput

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")


class Secrets:
    """Answers `{"$secret": name}`."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def __call__(self, name: str) -> str:
        """Return the secret's text. Raises BadInput, which names it but never shows it."""
        if not _NAME.match(name) or ".." in name:
            raise BadInput(f"{name!r} is no name of a secret")
        if self._folder is None:
            raise BadInput("this worker has no secrets: set SPINDLE_SECRETS_DIR")
        try:
            return (self._folder / name).read_text().rstrip("\n")
        except OSError:
            raise BadInput(f"this worker has no secret {name!r}") from None
