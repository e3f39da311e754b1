"""Request bodies: limited while they arrive, read strictly.

JSON must be UTF-8, without NaN or Infinity, repeated keys, lone surrogates, numbers beyond what machines agree on, or
nesting deeper than 64. Whatever is wrong is told with its JSON Pointer; syntax errors with line and column.
"""

import json
import re
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import ClientDisconnect, Request

from spindle_common.contracts import Mistake
from spindle_common.problems import InvalidRequest, TooLarge, UnsupportedMediaType, mistake, pointer

MAX_DEPTH = 64
MAX_MISTAKES = 50
_LARGEST = 2**64
_JSON = re.compile(r"application/([a-z0-9.+-]+\+)?json")
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


class _Flaw:
    """Stands where a value was that JSON does not know."""

    def __init__(self, code: str, detail: str, hint: str) -> None:
        self.about = (code, detail, hint)


class _Repeated(dict[str, Any]):
    """An object that names a key twice."""

    key = ""


def media_type(request: Request) -> str:
    """Return the media type of the body in lower case, without parameters; empty when none is given."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def limited(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """Yield the body as it arrives; `TooLarge` as soon as it is known to exceed `limit` bytes."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise TooLarge(f"The body has {declared} bytes, {limit} are allowed.")
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"The body has more than {limit} bytes.")
            if chunk:
                yield chunk
    except ClientDisconnect as error:
        raise InvalidRequest("The client went away before the body was complete.") from error


async def json_body(request: Request, limit: int) -> Any:
    """Read a JSON body. Raises `UnsupportedMediaType`, `TooLarge`, `InvalidRequest`."""
    kind = media_type(request)
    if not _JSON.fullmatch(kind):
        raise UnsupportedMediaType(f"Send JSON with `Content-Type: application/json`, not {kind[:80] or 'nothing'!r}.")
    return parse_json(b"".join([chunk async for chunk in limited(request, limit)]))


async def json_object(request: Request, limit: int) -> dict[str, Any]:
    """Read a JSON body that must be an object."""
    body = await json_body(request, limit)
    if not isinstance(body, dict):
        raise InvalidRequest(
            "The body is not a JSON object.", errors=[mistake("", "type", "An object is wanted here.")]
        )
    return body


def parse_json(raw: bytes) -> Any:
    """Parse JSON strictly; `InvalidRequest` names everything that is wrong with it."""
    if not raw.strip():
        raise _refusal(mistake("", "empty-body", "The body is empty.", "Send a JSON document."))
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        detail = f"Byte {error.start} is not valid UTF-8."
        raise _refusal(mistake("", "not-utf-8", detail, "Encode the body as UTF-8.")) from None
    reader = _Reader()
    try:
        value = reader.decode(text)
    except json.JSONDecodeError as error:
        detail = f"{error.msg} at line {error.lineno}, column {error.colno}."
        raise _refusal(mistake("", "json-syntax", detail)) from None
    except RecursionError:
        raise _refusal(_too_deep("")) from None
    nested = text.count("[") + text.count("{") > MAX_DEPTH
    if reader.flawed or nested or _SURROGATE_ESCAPE.search(text):
        found = _mistakes(value)
        if found:
            raise _refusal(*found)
    return value


class _Reader(json.JSONDecoder):
    """Leaves a mark where something is wrong, so that its place can be told."""

    def __init__(self) -> None:
        super().__init__(
            parse_constant=self._constant, parse_float=self._float, parse_int=self._int, object_pairs_hook=self._object
        )
        self.flawed = False

    def _flaw(self, code: str, detail: str, hint: str) -> _Flaw:
        self.flawed = True
        return _Flaw(code, detail, hint)

    def _constant(self, text: str) -> _Flaw:
        return self._flaw("not-a-number", f"JSON has no {text}.", "Use a number, a string or null.")

    def _float(self, text: str) -> float | _Flaw:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            return self._flaw("number-range", f"{text[:40]} does not fit a double.", "Use a smaller number.")
        return value

    def _int(self, text: str) -> int | _Flaw:
        if len(text) > 21 or abs(int(text)) > _LARGEST:
            return self._flaw(
                "number-range", f"{text[:40]} does not fit 64 bits.", "Use a smaller number, or a string."
            )
        return int(text)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) == len(pairs):
            return found
        self.flawed = True
        repeated = _Repeated(found)
        names = [name for name, _ in pairs]
        repeated.key = next(name for name in names if names.count(name) > 1)
        return repeated


def _mistakes(root: Any) -> list[Mistake]:
    """Find every mark, lone surrogate and too deep place, without recursion."""
    found: list[Mistake] = []
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), root)]
    while waiting and len(found) < MAX_MISTAKES:
        path, value = waiting.pop()
        found += _wrong_here(path, value)
        if len(path) < MAX_DEPTH and isinstance(value, dict):
            waiting += [((*path, name), each) for name, each in reversed(value.items())]
        elif len(path) < MAX_DEPTH and isinstance(value, list):
            waiting += [((*path, index), each) for index, each in reversed(list(enumerate(value)))]
    return found


def _wrong_here(path: tuple[str | int, ...], value: Any) -> list[Mistake]:
    where = _printable(pointer(*path))
    match value:
        case _Flaw():
            code, detail, hint = value.about
            return [mistake(where, code, detail, hint)]
        case str():
            return [] if _printable(value) == value else [_lone_surrogate(where)]
        case dict() | list() if len(path) >= MAX_DEPTH and value:
            return [_too_deep(where)]
        case dict():
            return _wrong_keys(path, value)
        case _:
            return []


def _wrong_keys(path: tuple[str | int, ...], value: dict[str, Any]) -> list[Mistake]:
    found = [_lone_surrogate(_printable(pointer(*path, name))) for name in value if _printable(name) != name]
    if isinstance(value, _Repeated):
        where = _printable(pointer(*path, value.key))
        found.append(mistake(where, "duplicate-key", "This key stands twice in one object.", "Remove one of them."))
    return found


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _lone_surrogate(where: str) -> Mistake:
    return mistake(where, "lone-surrogate", "Half of a surrogate pair is no character.", "Send the pair, or UTF-8.")


def _too_deep(where: str) -> Mistake:
    return mistake(where, "too-deep", f"The document is nested deeper than {MAX_DEPTH}.", "Flatten it.")


def _refusal(*errors: Mistake) -> InvalidRequest:
    return InvalidRequest("The body is not the JSON that is taken here.", errors=errors)
