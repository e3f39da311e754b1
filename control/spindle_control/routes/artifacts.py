"""Artifacts: upload bytes, look them up by their digest, download them whole or in part.

Content never changes under its digest: the ETag is the digest, and caches may keep it for ever. What a browser could
run as a page of ours (HTML, SVG, anything unknown) is sent as an attachment, all of it sandboxed and unsniffed.
"""

import re
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from spindle_common.problems import InvalidRequest, RangeNotSatisfiable, UnsupportedMediaType
from spindle_control import http_metrics
from spindle_control.api import PREFIX, Json, services
from spindle_control.bodies import limited, media_type
from spindle_control.media import checked_media_type
from spindle_control.routes import documented as doc

router = APIRouter(prefix=f"{PREFIX}/artifacts", tags=["artifacts"])

_BLOCK = 256 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_INLINE = re.compile(
    r"image/(png|jpeg|webp|gif|avif|bmp)|video/[a-z0-9.+-]+|audio/[a-z0-9.+-]+|text/plain|application/json"
)
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
        },
    }
}
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_CONTENT: dict[int | str, Any] = {
    200: {"description": "The bytes.", "content": {"application/octet-stream": _BYTES, "image/png": _BYTES}},
    206: {"description": "The part asked for.", "content": {"application/octet-stream": _BYTES, "image/png": _BYTES}},
    304: {"description": "You have it."},
    **{status: doc.problem(status) for status in (400, 401, 403, 404, 416, 503)},
    **doc.ANY_PROBLEM,
}


@router.post(
    "",
    status_code=201,
    summary="Upload an artifact",
    responses=doc.answers(201, "Kept; these name it.", "Artifact", doc.ARTIFACT, 400, 413, 415, 503),
    openapi_extra=_UPLOAD,
)
async def upload(request: Request) -> JSONResponse:
    """Send the bytes as the body with their `Content-Type`, or one `file` as multipart/form-data."""
    found = services(request)
    limit = found.settings.max_upload_bytes
    if media_type(request) == "multipart/form-data":
        artifact = await _upload_form(request, limit)
    else:
        artifact = await _keep(request, media_type(request), limited(request, limit))
    http_metrics.artifact_bytes.labels("in").inc(artifact["size"])
    return JSONResponse(artifact, status_code=201, headers={"Location": f"{router.prefix}/{artifact['digest']}"})


async def _upload_form(request: Request, limit: int) -> Json:
    parser = MultiPartParser(request.headers, limited(request, limit + 64 * 1024), max_files=1, max_fields=8)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        detail = getattr(error, "message", "") or "The form cannot be read."
        raise InvalidRequest(f"{detail} Send one file as multipart/form-data.") from None
    async with _closing(form):
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise InvalidRequest("The form has no file named `file`.")
        kind = (file.content_type or "").partition(";")[0].strip().lower()
        return await _keep(request, kind, _blocks(file))


class _closing:  # noqa: N801 -- a context manager
    def __init__(self, form: Any) -> None:
        self._form = form

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        await self._form.close()


async def _blocks(file: UploadFile) -> AsyncIterator[bytes]:
    while block := await file.read(_BLOCK):
        yield block


async def _keep(request: Request, declared: str, blocks: AsyncIterator[bytes]) -> Json:
    """Stream to the store, once the first bytes agree with the media type."""
    if not declared:
        raise UnsupportedMediaType("Say with `Content-Type` what the bytes are, such as image/png.")
    found = services(request)
    head = b""
    async for block in blocks:
        head += block
        if len(head) >= 64:
            break
    kind = checked_media_type(declared, head)

    async def whole() -> AsyncIterator[bytes]:
        if head:
            yield head
        async for block in blocks:
            yield block

    return await found.artifacts.put(whole(), kind, limit=found.settings.max_upload_bytes)


@router.get(
    "/{digest}",
    summary="Look up an artifact",
    responses=doc.answers(200, "Media type and size.", "Artifact", doc.ARTIFACT, 400, 404, 503),
)
async def show(request: Request, digest: str) -> JSONResponse:
    """Its media type and its size in bytes."""
    return JSONResponse(await services(request).artifacts.head(digest))


@router.head("/{digest}/content", include_in_schema=False)
@router.get("/{digest}/content", summary="Download an artifact", responses=_CONTENT, response_class=Response)
async def content(request: Request, digest: str) -> Response:
    """The bytes; `Range`, `If-None-Match` and `If-Range` are honoured, HEAD too."""
    store = services(request).artifacts
    artifact = await store.head(digest)
    headers = _headers(artifact)
    if _names(request.headers.get("if-none-match", ""), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    size = artifact["size"]
    part = _part(request, headers["ETag"], size)
    start, length = part or (0, size)
    headers["Content-Length"] = str(length)
    if part:
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    status = 206 if part else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=artifact["media_type"])
    http_metrics.artifact_bytes.labels("out").inc(length)
    blocks = await _begun(store.stream(digest, start, length) if part else store.stream(digest))
    return StreamingResponse(blocks, status, headers, artifact["media_type"])


async def _begun(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Wait for the first block before anything is answered, so that a store that is away is still a problem."""
    first = await anext(blocks, b"")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for block in blocks:
            yield block

    return whole()


def _headers(artifact: Json) -> dict[str, str]:
    headers = {
        "ETag": f'"{artifact["digest"]}"',
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
        "X-Content-Type-Options": "nosniff",
    }
    if not _INLINE.fullmatch(artifact["media_type"]):
        headers["Content-Disposition"] = f'attachment; filename="{artifact["digest"][7:19]}"'
    return headers


def _names(listed: str, etag: str) -> bool:
    return listed.strip() == "*" or etag in (each.strip().removeprefix("W/") for each in listed.split(","))


def _part(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """Return start and length of the one range asked for; None for the whole (RFC 9110, 14.2).

    Raises RangeNotSatisfiable. What cannot be read, and several ranges, are ignored, as the RFC allows.
    """
    match = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if not match or match.group(0) == "bytes=-" or request.headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if not first:
        length = min(int(last), size)
        start = size - length
    else:
        start = int(first)
        if last and int(last) < start:
            return None
        length = min(int(last or size), size - 1) - start + 1
    if length <= 0 or start >= size:
        raise RangeNotSatisfiable(f"There are {size} bytes.", instance=str(size))
    return start, length
