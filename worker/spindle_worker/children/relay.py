"""Errors across a process boundary: as the body that people see, and the names of their classes.

Whoever gets one raises the nearest class that it knows, so that `except NotFound` and "may it be tried again" mean the
same on both sides.
"""

from collections.abc import Iterator
from typing import Any

import spindle_common.artifacts  # noqa: F401 - so that its errors are among those known on both sides
from spindle_common.contracts import Mistake
from spindle_common.problems import PREFIX, NodeFailed, SpindleError


def packed(error: SpindleError) -> dict[str, Any]:
    """Write an error down as JSON."""
    kinds = [_name(kind) for kind in type(error).__mro__ if issubclass(kind, SpindleError)]
    return {"kinds": kinds, "problem": error.problem(), "retry_after": error.retry_after}


def unpacked(data: dict[str, Any]) -> SpindleError:
    """Build the error again."""
    known = {_name(kind): kind for kind in _kinds(SpindleError)}
    kind = next((known[name] for name in data["kinds"] if name in known), NodeFailed)
    problem = data["problem"]
    error = kind.__new__(kind)
    errors = [Mistake.model_validate(each) for each in problem.get("errors", ())]
    about = {"errors": errors, "retry_after": data.get("retry_after"), "instance": problem.get("instance")}
    SpindleError.__init__(error, problem.get("detail", ""), **about)
    own = {"code": problem["type"].removeprefix(PREFIX), "title": problem["title"], "status": problem["status"]}
    vars(error).update(own, retryable=problem.get("retryable", False))  # of a class that is not known here
    return error


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _kinds(kind: type[SpindleError]) -> Iterator[type[SpindleError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _kinds(each)
