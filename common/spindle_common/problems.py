"""Errors, as RFC 9457 describes them: one tree, one body in HTTP replies, events and run records.

    SpindleError
      InvalidRequest 400        the request cannot be read
        InvalidWorkflow 422     the document breaks rules; `errors` lists every mistake
        InvalidInputs 422       a run's inputs do not fit the workflow
      Unauthorized 401, Forbidden 403, NotFound 404, Conflict 409, PreconditionFailed 412
      TooLarge 413, UnsupportedMediaType 415, RangeNotSatisfiable 416, TooManyRequests 429
      Unavailable 503           a part that we need is away; try again
      NodeFailed 500            a node's own failure
        BadInput 422            a node cannot work with what it was given
        TimedOut 504            an attempt ran out of time
        OutOfMemory 507         the device or the host had no memory left
      StateLost 500             what was in flight is gone

An error says whether trying again may help (`retryable`); nothing outside this file decides that by type.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from spindle_common.contracts import Mistake

PREFIX = "urn:spindle:problem:"


class SpindleError(Exception):
    """Base of every error that a person may see; `detail` says what happened this time."""

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Something went wrong inside Spindle"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Sequence[Mistake] = (),
        retry_after: float | None = None,
        instance: str | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.instance = instance

    def problem(self, trace_id: str | None = None) -> dict[str, Any]:
        """Return the body that `problem.schema.json` describes."""
        body: dict[str, Any] = {"type": PREFIX + self.code, "title": self.title, "status": self.status}
        optional = {
            "detail": self.detail,
            "instance": self.instance,
            "errors": [e.model_dump(mode="json") for e in self.errors],
            "trace_id": trace_id,
            "retryable": self.retryable,
        }
        return body | {key: value for key, value in optional.items() if value}


class InvalidRequest(SpindleError):
    """The request cannot be read."""

    code, title, status = "invalid-request", "The request is not valid", 400


class InvalidWorkflow(InvalidRequest):
    """The workflow breaks rules; `errors` lists every one."""

    code, title, status = "invalid-workflow", "The workflow is not valid", 422


class InvalidInputs(InvalidRequest):
    """The inputs do not fit the workflow."""

    code, title, status = "invalid-inputs", "The run's inputs are not valid", 422


class Unauthorized(SpindleError):
    """No key, or one that we do not know."""

    code, title, status = "unauthorized", "An API key is needed", 401


class Forbidden(SpindleError):
    """The key or the origin may not do this."""

    code, title, status = "forbidden", "This is not allowed", 403


class NotFound(SpindleError):
    """There is no such thing."""

    code, title, status = "not-found", "There is no such thing", 404


class MethodNotAllowed(SpindleError):
    """The address exists, the verb does not."""

    code, title, status = "method-not-allowed", "This address does not take that method", 405


class Conflict(SpindleError):
    """The thing is in a state that forbids this."""

    code, title, status = "conflict", "The state of the thing forbids this", 409


class PreconditionFailed(SpindleError):
    """If-Match or If-None-Match does not hold."""

    code, title, status = "precondition-failed", "The thing is no longer what the request says it is", 412


class TooLarge(SpindleError):
    """The body is over its limit."""

    code, title, status = "too-large", "The body is too large", 413


class UnsupportedMediaType(SpindleError):
    """The body's media type is not one that is taken here."""

    code, title, status = "unsupported-media-type", "The media type is not taken here", 415


class RangeNotSatisfiable(SpindleError):
    """The Range header asks for bytes that are not there."""

    code, title, status = "range-not-satisfiable", "The range lies outside the content", 416


class TooManyRequests(SpindleError):
    """Admission control: come back later."""

    code, title, status, retryable = "too-many-requests", "Too much work is queued", 429, True


class Unavailable(SpindleError):
    """Redis, the database or the object store is away."""

    code, title, status, retryable = "unavailable", "A part that Spindle needs is away", 503, True


class NodeFailed(SpindleError):
    """A node failed by itself."""

    code, title, status = "node-failed", "A node failed", 500


class BadInput(NodeFailed):
    """A node cannot work with what it was given; trying again will not help."""

    code, title, status = "bad-input", "A node was given what it cannot work with", 422


class TimedOut(NodeFailed):
    """An attempt ran out of time."""

    code, title, status, retryable = "timed-out", "A node ran out of time", 504, True


class OutOfMemory(NodeFailed):
    """The device or the host had no memory left."""

    code, title, status, retryable = "out-of-memory", "A node ran out of memory", 507, True


class Crashed(NodeFailed):
    """The worker died, or lost its lease, as often as the budget allows."""

    code, title, status, retryable = "crashed", "The worker died while it ran this node", 500, True


class StateLost(SpindleError):
    """What was in flight is gone (an emptied Redis)."""

    code, title, status, retryable = "state-lost", "The state of this run was lost", 500, True


def pointer(*parts: str | int) -> str:
    """Build a JSON Pointer (RFC 6901) from its unescaped parts."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def mistake(where: str, code: str, detail: str, hint: str | None = None) -> Mistake:
    """Build a mistake; `where` is a JSON Pointer."""
    extra = {} if hint is None else {"hint": hint}
    return Mistake(pointer=where, code=code, detail=detail, **extra)
