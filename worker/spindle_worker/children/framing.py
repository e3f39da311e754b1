"""Frames between a worker and a child, each with a JSON object and, where bytes travel, the bytes as they are.

    4 bytes: length of the header | 8 bytes: length of the body | header, JSON | body

Both lengths are bounded; whoever reads anything else hangs up.
"""

import json
import socket
import struct
from asyncio import IncompleteReadError, StreamReader
from typing import Any, NamedTuple

_LENGTHS = struct.Struct("!IQ")
HEADER_BYTES = 64 * 2**20
BODY_BYTES = 2 * 2**30


class BadFrame(Exception):
    """What was read is no frame; says why."""


class Frame(NamedTuple):
    """A header and its bytes."""

    header: dict[str, Any]
    body: bytes


def encoded(header: dict[str, Any], body: bytes = b"") -> bytes:
    """Write a frame's lengths and header; the body follows. Raises ValueError: NaN, or over its bound."""
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > HEADER_BYTES or len(body) > BODY_BYTES:
        raise ValueError(f"{len(text):,} bytes of JSON and {len(body):,} others are more than can be handed over")
    return _LENGTHS.pack(len(text), len(body)) + text


def send(sock: socket.socket, header: dict[str, Any], body: bytes = b"") -> None:
    """Send a frame, blocking. Raises ValueError, OSError."""
    sock.sendall(encoded(header, body))
    if body:
        sock.sendall(body)


def receive(sock: socket.socket) -> Frame | None:
    """Receive a frame, blocking; None at the end. Raises BadFrame, OSError."""
    head = _exactly(sock, _LENGTHS.size)
    if head is None:
        return None
    header_size, body_size = _lengths(head)
    header, body = _exactly(sock, header_size), _exactly(sock, body_size)
    return None if header is None or body is None else Frame(_object(header), bytes(body))


async def read(reader: StreamReader) -> Frame | None:
    """Read a frame; None at the end. Raises BadFrame, OSError."""
    try:
        header_size, body_size = _lengths(await reader.readexactly(_LENGTHS.size))
        header = await reader.readexactly(header_size)
        return Frame(_object(header), await reader.readexactly(body_size) if body_size else b"")
    except IncompleteReadError:
        return None


def _exactly(sock: socket.socket, size: int) -> bytearray | None:
    data = bytearray(size)
    view, got = memoryview(data), 0
    while got < size:
        count = sock.recv_into(view[got:])
        if not count:
            return None
        got += count
    return data


def _lengths(head: bytes | bytearray) -> tuple[int, int]:
    header, body = _LENGTHS.unpack(head)
    if header > HEADER_BYTES or body > BODY_BYTES:
        raise BadFrame(f"a frame of {header:,} and {body:,} bytes")
    return header, body


def _object(text: bytes | bytearray) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except ValueError as error:
        raise BadFrame(f"a header that is no JSON: {error}") from None
    if not isinstance(header, dict):
        raise BadFrame("a header that is no object")
    return header
