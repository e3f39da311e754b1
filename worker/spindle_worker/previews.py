"""Previews as they travel: a small JPEG, as base64."""

import base64
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

PREVIEW_BYTES = 32 * 1024
_PREVIEW_SIDE = 512


def preview_data(picture: "Picture") -> dict[str, Any]:
    """Encode a preview: a JPEG of at most 32 KiB, as base64, with its size in pixels."""
    small = picture.convert("RGB")
    small.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
    for quality in (85, 70, 50, 30, 10):
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= PREVIEW_BYTES:
            break
    text = base64.b64encode(buffer.getvalue()).decode()
    return {"media_type": "image/jpeg", "width": small.width, "height": small.height, "base64": text}
