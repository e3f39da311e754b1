"""Conditions of a request (RFC 9110, 13): `If-Match` and `If-None-Match` against the ETag of what is there.

`Condition.of(request.headers).holds(etag)`, where `etag` is `"sha256:…"`, or None where nothing is there.
"""

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from spindle_common.problems import InvalidRequest, mistake

_TAG = r'(W/)?("[^"]*")'
_LIST = re.compile(rf"\s*{_TAG}\s*(,\s*{_TAG}\s*)*")


def etag_of(digest: str) -> str:
    """Return the ETag of what a digest names."""
    return f'"{digest}"'


@dataclass(frozen=True)
class Condition:
    """What must (`match`) and must not be there, as the headers' texts; None where the request does not care."""

    match: str | None = None
    none_match: str | None = None

    @classmethod
    def of(cls, headers: Headers) -> "Condition":
        """Read the headers. Raises InvalidRequest where one is neither `*` nor a list of entity tags."""
        return cls(_read(headers, "if-match"), _read(headers, "if-none-match"))

    def holds(self, etag: str | None) -> bool:
        """Whether the request may change what has this ETag."""
        if self.match is not None and not (etag and (self.match == "*" or etag in _tags(self.match, weak=False))):
            return False
        return not (etag and self.knows(etag))

    def knows(self, etag: str) -> bool:
        """Whether `If-None-Match` names it: whoever asks has it already."""
        return self.none_match is not None and (self.none_match == "*" or etag in _tags(self.none_match, weak=True))


def _read(headers: Headers, name: str) -> str | None:
    text = ",".join(headers.getlist(name)).strip()
    if name not in headers or text == "*":
        return text or None
    if not _LIST.fullmatch(text):
        wrong = mistake(f"/headers/{name}", "bad-etag", "it is no entity tag", 'write "sha256:…" with its quotes, or *')
        raise InvalidRequest("The request's conditions are not valid.", errors=[wrong])
    return text


def _tags(listed: str, *, weak: bool) -> set[str]:
    return {tag for weakly, tag in re.findall(_TAG, listed) if weak or not weakly}
