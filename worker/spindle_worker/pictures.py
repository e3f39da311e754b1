"""Pictures as artifacts: reading what anybody may have uploaded, and writing PNGs whose bytes follow from their pixels.

Whatever Pillow says about strange bytes becomes BadInput. Sizes are checked before pixels are decoded.
"""

import io

from PIL import Image, ImageOps

from spindle_common.contracts import Artifact
from spindle_common.problems import BadInput
from spindle_worker.context import Context

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 64 * 1024 * 1024
"""Of a picture read or made: 8,192 x 8,192; 256 MiB of memory with transparency."""
PNG_LEVEL = 1
"""zlib level of intermediate pictures: half the time of the default for a tenth more bytes."""


def open_picture(data: bytes) -> Image.Image:
    """Decode an upright RGB picture, or RGBA where it has transparency. Raises BadInput."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_size(picture.width, picture.height)
        picture.load()
        return _plain(ImageOps.exif_transpose(picture))
    except BadInput:
        raise
    except Exception as error:  # decoders of untrusted bytes raise nearly anything
        raise BadInput(f"The picture cannot be read; {', '.join(FORMATS)} are taken") from error


def read_picture(ctx: Context, artifact: Artifact) -> Image.Image:
    """Fetch and decode a picture. Raises BadInput, ArtifactNotFound, StoreUnavailable."""
    return open_picture(ctx.artifacts.read(artifact))


def write_picture(ctx: Context, picture: Image.Image) -> Artifact:
    """Store a picture as a bare PNG: its digest depends on its pixels alone."""
    return ctx.artifacts.write(encode_png(picture), "image/png")


def encode_png(picture: Image.Image) -> bytes:
    """Encode a PNG that carries pixels only."""
    out = io.BytesIO()
    _plain(picture).save(out, "PNG", compress_level=PNG_LEVEL)
    return out.getvalue()


def check_pixels(width: int, height: int) -> None:
    """Refuse to make a picture over the limit. Raises BadInput."""
    if width * height > MAX_PIXELS:
        raise BadInput(f"A picture of {width} x {height} would have more than {MAX_PIXELS:,} pixels")


def flat_rgb(picture: Image.Image) -> Image.Image:
    """Lay transparency over white."""
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    ground = Image.new("RGB", picture.size, "white")
    ground.paste(picture, mask=picture.getchannel("A"))
    return ground


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadInput(f"The picture has {width} x {height} pixels; at most {MAX_PIXELS:,} are taken")


def _plain(picture: Image.Image) -> Image.Image:
    """A copy in RGB or RGBA without profiles, text or other extras that an encoder would carry along."""
    transparent = picture.mode in {"RGBA", "LA", "PA", "La", "RGBa"} or "transparency" in picture.info
    plain = picture.convert("RGBA" if transparent else "RGB")
    plain = plain.copy() if plain is picture else plain
    plain.info = {}
    return plain
