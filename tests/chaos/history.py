"""What happened, as JSON lines: requests, answers, feeds that watchers saw, faults; what the checker reads."""

import json
import time
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class History:
    """Appends to a file; each line says what, and when (seconds since 1970)."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._sink = file.open("a")
        self.lines: list[Json] = []

    def note(self, what: str, **fields: Any) -> None:
        """Append one line."""
        line = {"what": what, "at": time.time()} | fields
        self.lines.append(line)
        self._sink.write(json.dumps(line) + "\n")
        self._sink.flush()

    def of(self, what: str) -> list[Json]:
        """Lines of one kind, in order."""
        return [line for line in self.lines if line["what"] == what]

    def close(self) -> None:
        """Close the file."""
        self._sink.close()
