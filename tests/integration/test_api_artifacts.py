"""Artifacts over HTTP: up, looked up, down, whole and in part."""

import hashlib
import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from PIL import Image

from support.control import API, Control, serving
from support.redis_server import RedisServer

ARTIFACTS = f"{API}/artifacts"
LIMIT = 200_000


@pytest.fixture
async def control(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Control]:
    async with serving(tmp_path, redis_server.url, max_upload_bytes=LIMIT) as control:
        yield control


def picture(form: str = "PNG") -> bytes:
    found = io.BytesIO()
    Image.new("RGB", (9, 7), (200, 10, 10)).save(found, form)
    return found.getvalue()


async def keep(control: Control, data: bytes, media_type: str) -> str:
    response = await control.http.post(ARTIFACTS, content=data, headers={"Content-Type": media_type})
    assert response.status_code == 201, response.text
    return str(response.json()["digest"])


async def test_a_picture_goes_up_and_comes_back(control: Control) -> None:
    data = picture()
    response = await control.http.post(ARTIFACTS, content=data, headers={"Content-Type": "image/png"})
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    artifact = {"digest": digest, "media_type": "image/png", "size": len(data)}
    assert (response.status_code, response.json()) == (201, artifact)
    where = response.headers["Location"]
    assert where == f"{ARTIFACTS}/{digest}"
    assert (await control.http.get(where)).json() == artifact
    content = await control.http.get(f"{where}/content")
    assert content.content == data
    headers = content.headers
    assert headers["Content-Type"] == "image/png"
    assert headers["Content-Length"] == str(len(data))
    assert headers["ETag"] == f'"{digest}"'
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("sandbox")
    assert "Content-Disposition" not in headers


async def test_a_body_may_come_in_chunks(control: Control) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 1000

    response = await control.http.post(ARTIFACTS, content=chunks(), headers={"Content-Type": "text/plain"})
    assert response.json()["size"] == 10_000


async def test_a_form_with_a_file_is_taken_too(control: Control) -> None:
    data = picture("WEBP")
    response = await control.http.post(ARTIFACTS, files={"file": ("a.webp", data, "image/webp")})
    assert (response.status_code, response.json()["size"]) == (201, len(data))
    assert (await control.http.get(response.headers["Location"] + "/content")).content == data


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"--x\r\n\r\n", "multipart/form-data; boundary=x"),
        (b"nothing", "multipart/form-data"),
        (b"", "multipart/form-data; boundary=x"),
        (
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
        ),
    ],
)
async def test_a_broken_form_is_a_problem(control: Control, body: bytes, content_type: str) -> None:
    response = await control.http.post(ARTIFACTS, content=body, headers={"Content-Type": content_type})
    assert (response.status_code, response.headers["Content-Type"]) == (400, "application/problem+json")


async def test_more_than_the_limit_leaves_nothing_behind(control: Control, tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(LIMIT // 1000 + 1):
            yield b"x" * 1000

    big = b"x" * (LIMIT + 1)
    for body in (big, chunks()):
        response = await control.http.post(ARTIFACTS, content=body, headers={"Content-Type": "text/plain"})
        assert response.status_code == 413
    response = await control.http.post(ARTIFACTS, files={"file": ("a", big * 2, "text/plain")})
    assert response.status_code == 413
    assert [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("data", "media_type", "status"),
    [
        (picture("PNG"), "image/jpeg", 415),
        (picture("JPEG"), "text/html", 415),
        (b"<html>", "image/png", 415),
        (b"", "image/png", 415),
        (b"x", "", 415),
        (b"x", "nonsense", 415),
        (b"x", "Text/Plain; charset=utf-8", 201),
        (picture("GIF"), "image/gif", 201),
        (picture("BMP"), "image/bmp", 201),
        (picture("TIFF"), "image/tiff", 201),
        (b"BMan", "text/plain", 201),
        (b"", "text/plain", 201),
    ],
)
async def test_bytes_must_be_what_the_header_says(control: Control, data: bytes, media_type: str, status: int) -> None:
    response = await control.http.post(ARTIFACTS, content=data, headers={"Content-Type": media_type})
    assert response.status_code == status


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "AVIF"])
async def test_pictures_without_a_type_are_recognised(control: Control, form: str) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    response = await control.http.post(ARTIFACTS, content=picture(form), headers=headers)
    assert response.json()["media_type"] == f"image/{form.lower()}"


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-9", 206, slice(0, 10)),
        ("bytes=10-", 206, slice(10, None)),
        ("bytes=-5", 206, slice(-5, None)),
        ("bytes=-5000", 206, slice(None)),
        ("bytes=90-900", 206, slice(90, None)),
        ("bytes=99-99", 206, slice(99, 100)),
        ("bytes=9-3", 200, slice(None)),
        ("bytes=0-1,5-6", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
        ("bytes=100-", 416, None),
        ("bytes=-0", 416, None),
    ],
)
async def test_ranges(control: Control, asked: str, status: int, part: slice | None) -> None:
    data = bytes(range(100))
    where = f"{ARTIFACTS}/{await keep(control, data, 'application/x-thing')}/content"
    response = await control.http.get(where, headers={"Range": asked})
    assert response.status_code == status
    if part is None:
        assert response.headers["Content-Range"] == "bytes */100"
        assert response.headers["Content-Type"] == "application/problem+json"
        return
    assert response.content == data[part]
    assert response.headers["Content-Length"] == str(len(data[part]))
    start = range(100)[part][0]
    expected = f"bytes {start}-{start + len(data[part]) - 1}/100" if status == 206 else None
    assert response.headers.get("Content-Range") == expected


async def test_conditions_and_head(control: Control) -> None:
    digest = await keep(control, b"0123456789", "text/plain")
    where, etag = f"{ARTIFACTS}/{digest}/content", f'"{digest}"'
    for known in (etag, f'"other", W/{etag}', "*"):
        response = await control.http.get(where, headers={"If-None-Match": known})
        assert (response.status_code, response.content, response.headers["ETag"]) == (304, b"", etag)
    assert (await control.http.get(where, headers={"If-None-Match": '"other"'})).status_code == 200
    changed = await control.http.get(where, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    assert (changed.status_code, changed.content) == (200, b"0123456789")
    same = await control.http.get(where, headers={"Range": "bytes=0-1", "If-Range": etag})
    assert (same.status_code, same.content) == (206, b"01")
    head = await control.http.head(where)
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", "10")
    part = await control.http.head(where, headers={"Range": "bytes=2-3"})
    assert (part.status_code, part.headers["Content-Length"]) == (206, "2")


async def test_an_empty_artifact_can_be_fetched(control: Control) -> None:
    digest = await keep(control, b"", "text/plain")
    response = await control.http.get(f"{ARTIFACTS}/{digest}/content")
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize("media_type", ["text/html", "image/svg+xml", "application/xhtml+xml", "application/pdf"])
async def test_what_a_browser_would_run_is_an_attachment(control: Control, media_type: str) -> None:
    digest = await keep(control, b"<script>alert(1)</script>", media_type)
    response = await control.http.get(f"{ARTIFACTS}/{digest}/content")
    assert response.headers["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize("tail", ["", "/content"])
async def test_unknown_and_malformed_digests(control: Control, tail: str) -> None:
    for digest, status in (("sha256:" + "0" * 64, 404), ("sha256:x", 400), ("..%2f..%2fetc", 404), ("x" * 5000, 400)):
        response = await control.http.get(f"{ARTIFACTS}/{digest}{tail}")
        assert (response.status_code, response.headers["Content-Type"]) == (status, "application/problem+json")
