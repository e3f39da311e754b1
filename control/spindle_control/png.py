"""Text in a PNG file, read chunk by chunk (PNG specification, third edition, §5 and §11.3.3).

A chunk is length, type, data, CRC-32. `iTXt` data is keyword, NUL, compression flag and method, language, NUL,
translated keyword, NUL, UTF-8 text; `zTXt` is keyword, NUL, method, zlib data; `tEXt` is keyword, NUL, Latin-1 text.
"""

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST_TEXT = 8 * 1024 * 1024


class BadPng(ValueError):
    """The file is no PNG, is damaged, or holds more text than we read."""


def text_of(content: bytes, keyword: str) -> str | None:
    """Return the text that a PNG keeps under a keyword, or None; raises BadPng."""
    if not content.startswith(SIGNATURE):
        raise BadPng("this is no PNG file")
    wanted, position = keyword.encode("latin-1"), len(SIGNATURE)
    while position < len(content):
        kind, data, position = _chunk(content, position)
        if kind in _READERS and data.partition(b"\0")[0] == wanted:
            return _READERS[kind](data.partition(b"\0")[2])
        if kind == b"IEND":
            break
    return None


def _chunk(content: bytes, position: int) -> tuple[bytes, bytes, int]:
    if position + 12 > len(content):
        raise BadPng("the PNG file ends too early")
    length, kind = struct.unpack_from(">I4s", content, position)
    end = position + 8 + length
    if end + 4 > len(content):
        raise BadPng("the PNG file ends too early")
    data = content[position + 8 : end]
    if kind in _READERS and zlib.crc32(kind + data) != struct.unpack_from(">I", content, end)[0]:
        raise BadPng("the PNG file is damaged: a checksum is wrong")
    return kind, data, end + 4


def _international(rest: bytes) -> str:
    compressed, rest = rest[:1] == b"\1", rest[2:]
    _language, _, rest = rest.partition(b"\0")
    _translated, _, text = rest.partition(b"\0")
    return _utf8(_inflated(text) if compressed else text)


def _compressed(rest: bytes) -> str:
    return _inflated(rest[1:]).decode("latin-1")


def _plain(rest: bytes) -> str:
    return rest.decode("latin-1")


def _inflated(data: bytes) -> bytes:
    """Decompress at most LARGEST_TEXT bytes, whatever the file claims."""
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, LARGEST_TEXT)
    except zlib.error:
        raise BadPng("the text in the PNG file does not decompress") from None
    if stream.unconsumed_tail:
        raise BadPng(f"the text in the PNG file is larger than {LARGEST_TEXT} bytes")
    return text


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadPng("the text in the PNG file is not UTF-8") from None


_READERS = {b"iTXt": _international, b"zTXt": _compressed, b"tEXt": _plain}
