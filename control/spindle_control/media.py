"""Whether an upload is what it says: pictures are known by their first bytes."""

from spindle_common.problems import UnsupportedMediaType

_UNKNOWN = "application/octet-stream"
_KNOWN = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp", "image/avif", "image/tiff"})


def sniffed(head: bytes) -> str | None:
    """Return the media type of a picture by its first bytes; None for anything else."""
    if head.startswith((b"RIFF", b"\0\0\0")):
        boxes = {(b"RIFF", b"WEBP"): "image/webp"}
        if head[4:12] == b"ftypavif":
            return "image/avif"
        return boxes.get((head[:4], head[8:12]))
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    return None


_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"BM", "image/bmp"),
)


def checked_media_type(declared: str, head: bytes) -> str:
    """Return the media type to keep. Raises `UnsupportedMediaType` where bytes and header disagree."""
    found = sniffed(head)
    declared = "image/jpeg" if declared == "image/jpg" else declared
    if declared == _UNKNOWN and found:
        return found
    weak = found == "image/bmp" and declared not in _KNOWN  # two letters prove little
    if found != declared and (declared in _KNOWN or (found and not weak)):
        raise UnsupportedMediaType(f"The Content-Type says {declared}, the bytes are {found or 'no such picture'}.")
    return declared
