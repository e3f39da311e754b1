"""What a picture is asked for with, and the handles that pass between nodes in a worker's memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Conditioning:
    """An encoded prompt. Tensors are (1, tokens, width) and, pooled, (1, width); None for models that encode while
    they sample, which get the words themselves.
    """

    recipe: Mapping[str, Any]
    prompt: str
    negative_prompt: str = ""
    positive: "Tensor | None" = None
    negative: "Tensor | None" = None
    pooled: "Tensor | None" = None
    negative_pooled: "Tensor | None" = None


@dataclass(frozen=True, eq=False)
class LatentBatch:
    """Latents of one picture, as the model's loop leaves them, scaled; `width` and `height` are the picture's."""

    recipe: Mapping[str, Any]
    tensor: "Tensor"
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class Request:
    """One picture to be made. With `start`, the picture grows out of those latents, changed by `strength` (0..1]."""

    conditioning: Conditioning
    steps: int
    guidance: float
    seed: int
    width: int
    height: int
    scheduler: str | None = None
    start: LatentBatch | None = None
    strength: float = 1.0


class Watch(Protocol):
    """Who follows a request: a node's context is one. `progress` raises Cancelled to stop it."""

    def progress(self, done: int, total: int, message: str | None = None) -> None:
        """Hear that `done` of `total` steps are made."""
        ...

    def wants_preview(self) -> bool:
        """Say whether a preview would be shown now."""
        ...

    def preview(self, image: "Picture") -> None:
        """Show an unfinished picture."""
        ...
