"""What the client raises: SpindleProblem with the body that RFC 9457 describes, Unreachable where nothing answered."""

import json
from typing import Any

Json = dict[str, Any]


class SpindleProblem(Exception):
    """A refusal by the server: `problem` is the body, `errors` its mistakes with their pointers and hints."""

    def __init__(self, problem: Json) -> None:
        super().__init__(problem.get("detail") or problem.get("title") or "the server refused")
        self.problem = problem

    @property
    def status(self) -> int:
        """HTTP status."""
        return int(self.problem.get("status", 500))

    @property
    def code(self) -> str:
        """Stable code: the last part of the problem's type."""
        return str(self.problem.get("type", "about:blank")).rpartition(":")[2]

    @property
    def errors(self) -> list[Json]:
        """Mistakes: pointer, code, detail, hint."""
        return list(self.problem.get("errors", ()))


class Unreachable(SpindleProblem):
    """Nothing answered at the URL."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            {
                "type": "urn:spindle:problem:unreachable",
                "title": "Spindle does not answer",
                "status": 503,
                "detail": f"Nothing answers at {url} ({reason}).",
                "retryable": True,
            }
        )


def problem_of(status: int, reason: str, content: bytes) -> Json:
    """Return the problem in a reply's body; made up from its status where the body holds none."""
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if isinstance(body, dict) and "title" in body:
        return {"status": status, **body}
    return {"type": "about:blank", "title": reason or "The server refused", "status": status}
