"""What the tests of the denoise loop share: loaded random models, a watch that notes what it hears, plain requests."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL.Image import Image as Picture

from spindle_worker.diffusion import Request
from spindle_worker.diffusion.codec import encode_text
from spindle_worker.models import CacheOptions, LoadedModel, ModelCache, ModelLibrary
from support import random_models

PROMPT, NEGATIVE = "a large red circle", "blurred"
STEPS = 4


@dataclass
class Noted:
    """A watch that keeps what it is told; `stop_after` raises Stopped at that step, `looks` wants every preview."""

    ticks: list[tuple[int, int]] = field(default_factory=list)
    previews: list[Picture] = field(default_factory=list)
    stop_after: int | None = None
    looks: bool = False

    def progress(self, done: int, total: int, message: str | None = None) -> None:
        del message
        self.ticks.append((done, total))
        if self.stop_after is not None and done >= self.stop_after:
            raise Stopped

    def wants_preview(self) -> bool:
        return self.looks

    def preview(self, image: Picture) -> None:
        self.previews.append(image)


class Stopped(BaseException):
    """As Cancelled is: no Exception."""


def random_cache(root: Path, *kinds: str, **options: Any) -> ModelCache:
    """Configure random models under their kinds' names, the first being the default one."""
    folders = {kind: str(random_models.save(kind, root / kind)) for kind in kinds}
    usual: dict[str, Any] = {"budget_bytes": 2**30, "device": "cpu", "threads": 1}
    return ModelCache(ModelLibrary(folders, kinds[0]), CacheOptions(**(usual | options)))


def request_for(model: LoadedModel, **options: Any) -> Request:
    """A small request: 32 x 32, 4 steps, guidance 4."""
    usual: dict[str, Any] = {"steps": STEPS, "guidance": 4.0, "seed": 7, "width": 32, "height": 32}
    words = encode_text(model, PROMPT, NEGATIVE, guided=(usual | options)["guidance"] > 1)
    return Request(conditioning=words, **(usual | options))
