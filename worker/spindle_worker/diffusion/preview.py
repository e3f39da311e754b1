"""Previews: what the picture would be if the model stopped now, made beside the denoise loop, which never waits.

    with Previews(model, request, watch) as previews:
        ...
        if watch.wants_preview():
            previews.offer(clean_latents)

A thread of the model's own makes the pictures; while it is busy, or resting so as to take no more than a tenth of its
core, offers are dropped, and after the block nothing is shown. AutoencoderTiny decodes for real where that takes
milliseconds. For any other VAE a linear map takes the 3 x 3 latent cells around each cell to its 4 x 4 pixels; it is
fitted once a model by ridge regression, on what the VAE itself makes of a few patterns, without constants for each.
"""

import logging
import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Self

from PIL import Image, ImageDraw

from spindle_worker.diffusion.codec import decode_tensor, encode_picture, to_picture, unpacked
from spindle_worker.diffusion.requests import LatentBatch, Request, Watch
from spindle_worker.models.loading import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor

CHEAP_CELLS = 32 * 32
"""As many latent cells as AutoencoderTiny decodes in well under 0.2 s on one CPU core."""
SIDE = 256
"""Pixels along the longer side of a preview by the linear map, at most."""
_REST = 9.0
"""Times as long as the last preview took."""
_SUB = 4
"""Pixels along the side of one latent cell in a preview."""
_PATTERNS, _CELLS = 6, 16
_RIDGE = 0.1

log = logging.getLogger(__name__)


class Previews:
    """Previews of one request."""

    def __init__(self, model: LoadedModel, request: Request, watch: Watch) -> None:
        self._model, self._request, self._watch = model, request, watch
        self._showing = threading.Lock()
        self._closed = False
        self._making: Future[None] | None = None
        self._rest_until = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._showing:
            self._closed = True

    def wanted(self) -> bool:
        """Whether an offer now would be taken."""
        idle = self._making is None or self._making.done()
        return idle and time.monotonic() >= self._rest_until and self._watch.wants_preview()

    def offer(self, clean: "Tensor") -> None:
        """Have these latents pictured and shown, unless the last ones still are."""
        if self.wanted() and "no_previews" not in self._model.memo:
            self._making = _maker(self._model).submit(self._make, clean)

    def _make(self, clean: "Tensor") -> None:
        started = time.monotonic()
        try:
            latents = LatentBatch(self._model.recipe, clean, self._request.width, self._request.height)
            picture = preview_picture(self._model, latents)
        except Exception:  # of whatever VAE diffusers brings; a picture does not fail for want of previews
            log.warning("the model %s gets no previews", self._model.name, exc_info=True)
            self._model.memo["no_previews"] = True
            return
        self._rest_until = time.monotonic() + _REST * (time.monotonic() - started)
        with self._showing:
            if not self._closed:
                self._watch.preview(picture)


def _maker(model: LoadedModel) -> ThreadPoolExecutor:
    """The model's thread for previews; it ends with the model."""
    maker = model.memo.get("preview_maker")
    if maker is None:
        maker = model.memo.setdefault("preview_maker", ThreadPoolExecutor(1, "preview"))
    return maker  # type: ignore[no-any-return]


def preview_picture(model: LoadedModel, latents: LatentBatch) -> Image.Image:
    """Picture the latents, quickly."""
    import torch
    from torch.nn.functional import pixel_shuffle

    with torch.inference_mode():
        tensor = latents.tensor
        if tensor.ndim == 3:
            tensor = unpacked(model, tensor, latents.width, latents.height)
        rows, columns = tensor.shape[-2:]
        if type(model.pipe.vae).__name__ == "AutoencoderTiny" and rows * columns <= CHEAP_CELLS:
            return to_picture(decode_tensor(model, latents))
        flat = _surroundings(tensor.float()) @ colour_map(model)
        pixels = pixel_shuffle(flat.T.reshape(1, -1, rows, columns), _SUB)
    return to_picture(pixels[0]).resize(_size(latents.width, latents.height), Image.Resampling.BILINEAR)


def _size(width: int, height: int) -> tuple[int, int]:
    shrink = min(1.0, SIDE / max(width, height))
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def colour_map(model: LoadedModel) -> "Tensor":
    """The model's map, (9 x channels + 1, 3 x 16), fitted when first asked for."""
    if "colour_map" not in model.memo:
        model.memo["colour_map"] = _fit(model)
    return model.memo["colour_map"]  # type: ignore[no-any-return]


def _fit(model: LoadedModel) -> "Tensor":
    import torch

    chance = random.Random(0)  # noqa: S311 - patterns, no secrets
    cells, pixels = [], []
    with torch.inference_mode():
        for _ in range(_PATTERNS):
            pattern = _pattern(chance, _CELLS * model.scale)
            cells.append(_surroundings(encode_picture(model, pattern).tensor.float()))
            pixels.append(_targets(pattern).to(model.device))
        given, wanted = torch.cat(cells), torch.cat(pixels)
        ridge = _RIDGE * torch.eye(given.shape[1], device=given.device)
        return torch.linalg.solve(given.T @ given + ridge, given.T @ wanted)  # type: ignore[no-any-return]


def _pattern(chance: random.Random, side: int) -> Image.Image:
    """Colours running into each other, with edges of discs and boxes between them."""

    def colour() -> tuple[int, ...]:
        return tuple(chance.randrange(256) for _ in range(3))

    corners = Image.new("RGB", (2, 2))
    corners.putdata([colour() for _ in range(4)])
    picture = corners.resize((side, side), Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(picture)
    for index in range(8):
        left, top, size = chance.randrange(side), chance.randrange(side), chance.randrange(side // 8, side // 2)
        shape = draw.ellipse if index % 2 else draw.rectangle
        shape((left, top, left + size, top + size), fill=colour())
    return picture


def _targets(pattern: Image.Image) -> "Tensor":
    """(cells, 3 x 16) in [-1, 1]: the pixels of each cell, in pixel_shuffle's order."""
    import numpy as np
    import torch
    from torch.nn.functional import pixel_unshuffle

    small = pattern.resize((_CELLS * _SUB, _CELLS * _SUB), Image.Resampling.BOX)
    values = torch.from_numpy(np.asarray(small, dtype=np.float32) / 127.5 - 1.0).permute(2, 0, 1)[None]
    return pixel_unshuffle(values, _SUB)[0].flatten(1).T


def _surroundings(latents: "Tensor") -> "Tensor":
    """(cells, 9 x channels + 1): each cell with its eight neighbours, and a one."""
    import torch
    from torch.nn.functional import pad, unfold

    around = unfold(pad(latents, (1, 1, 1, 1), mode="replicate"), 3)[0].T
    return torch.cat([around, torch.ones_like(around[:, :1])], dim=1)
