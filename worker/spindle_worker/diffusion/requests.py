"""What a picture is asked for with, and the handles that pass between nodes in a worker's memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from spindle_worker.diffusion.schedulers import Spacing

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Conditioning:
    """An encoded prompt. Tensors are (1, tokens, width) and, pooled, (1, width); None for models that encode while
    they sample, which get the words themselves. `others` are prompts whose predictions are averaged with this one's;
    `distilled_guidance` is for models that learnt guidance as an input of theirs (FLUX); `zeroed`: emptied on purpose.
    """

    recipe: Mapping[str, Any]
    prompt: str
    negative_prompt: str = ""
    positive: "Tensor | None" = None
    negative: "Tensor | None" = None
    pooled: "Tensor | None" = None
    negative_pooled: "Tensor | None" = None
    others: "tuple[Conditioning, ...]" = ()
    distilled_guidance: float | None = None
    zeroed: bool = False

    @property
    def parts(self) -> "tuple[Conditioning, ...]":
        """Every prompt in it."""
        return (self, *(part for other in self.others for part in other.parts))


@dataclass(frozen=True, eq=False)
class LatentBatch:
    """Latents of one picture, as the model's loop leaves them, scaled; `width` and `height` are the picture's.

    Where noise is left in them, it lies on top: clean latents + sigma x noise (the variance-exploding form). `mask`,
    (1, 1, rows, columns), is 1 where the picture shall change. `space` says which VAEs understand them.
    """

    recipe: Mapping[str, Any]
    tensor: "Tensor"
    width: int
    height: int
    mask: "Tensor | None" = None
    space: tuple[object, ...] = ()


@dataclass(frozen=True, eq=False)
class Request:
    """One picture to be made. With `start`, the picture grows out of those latents, changed by `strength` (0..1].

    `first_step` to `last_step` is the part of the `steps` to be made, instead of `strength`. `negative` stands for the
    negative prompt of `conditioning`. `noise_index` chooses the n-th noise of the seed, for the n-th of a batch.
    """

    conditioning: Conditioning
    steps: int
    guidance: float
    seed: int
    width: int
    height: int
    scheduler: str | None = None
    start: LatentBatch | None = None
    strength: float = 1.0
    negative: Conditioning | None = None
    spacing: Spacing | None = None
    first_step: int | None = None
    last_step: int | None = None
    add_noise: bool = True
    leftover_noise: bool = False
    noise_index: int = 0


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
