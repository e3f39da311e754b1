"""Logs and trace context, set at the edges; libraries just use `logging.getLogger(__name__)`.

Trace context is W3C's `traceparent`: `00-{trace id, 32 hex}-{span id, 16 hex}-{flags}`. It comes with a request, is
kept with the run, goes with each task, and stands in every log line that was written on its behalf.
"""

import json
import logging
import re
import secrets
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

TRACEPARENT = re.compile(r"^00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})$")
_FIELDS = ("run", "node", "attempt", "task", "worker")
current_trace: ContextVar[str | None] = ContextVar("spindle_trace", default=None)
"""The traceparent on whose behalf this coroutine works."""


def new_traceparent() -> str:
    """Begin a trace."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def child_traceparent(parent: str | None) -> str:
    """Continue a trace with a span of our own; what is no traceparent begins a new one."""
    match = TRACEPARENT.match(parent or "")
    return f"00-{match[1]}-{secrets.token_hex(8)}-{match[3]}" if match else new_traceparent()


def trace_id(traceparent: str | None) -> str | None:
    """The 32 hex digits that name a trace."""
    match = TRACEPARENT.match(traceparent or "")
    return match[1] if match else None


def _about(record: logging.LogRecord) -> dict[str, object]:
    found = {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
    if trace := trace_id(current_trace.get()):
        found["trace_id"] = trace
    return found


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line | _about(record), ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """A line for people, with what it is about at its end."""

    def format(self, record: logging.LogRecord) -> str:
        """Render a record."""
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        about = " ".join(f"{key}={value}" for key, value in _about(record).items())
        line = f"{time} {record.levelname.lower():7} {record.getMessage()}" + (f"  [{about}]" if about else "")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure_logging(level: str, form: Literal["text", "json"]) -> None:
    """Send logs to standard error in one of two forms; called once, by a program's entry."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "urllib3", "asyncio", "alembic", "aiosqlite", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
