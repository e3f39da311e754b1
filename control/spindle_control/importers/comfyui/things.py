"""What passes along links while a ComfyUI document is translated: what a node's output will be, not yet a value.

A batch is a tuple: of latents, of pictures, of masks; a node that works on one is written once for each.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Self

Json = dict[str, Any]


@dataclass(frozen=True)
class Adapted:
    """A model, or its text encoder, with the adapters laid over it, each with its weight."""

    base: str
    adapters: tuple[tuple[str, float], ...] = ()
    family: str = ""

    def with_adapter(self, name: str, weight: float) -> Self:
        """The same with one more adapter; weight 0 changes nothing."""
        return replace(self, adapters=(*self.adapters, (name, weight))) if weight else self


@dataclass(frozen=True)
class Model(Adapted):
    """What denoises."""


@dataclass(frozen=True)
class Clip(Adapted):
    """What encodes prompts; `layer` counts from its end."""

    layer: int | None = None


@dataclass(frozen=True)
class Vae:
    """What decodes and encodes pictures: that of the model `base`."""

    base: str


@dataclass(frozen=True)
class Words:
    """An encoded prompt. `guided`: it says its guidance itself."""

    ref: Json
    guided: bool = False
    family: str = ""


@dataclass(frozen=True)
class Piece:
    """One picture's latents; without `ref` they are empty, of that size. `base` is the model or VAE that made them."""

    ref: Json | None
    base: str = ""
    width: int = 0
    height: int = 0
    index: int = 0


@dataclass(frozen=True)
class Latents:
    """A batch of latents; `family` says for which kind of model empty ones were meant."""

    pieces: tuple[Piece, ...]
    family: str = ""


@dataclass(frozen=True)
class Pictures:
    """A batch of pictures."""

    refs: tuple[Json, ...]


@dataclass(frozen=True)
class Mask:
    """A mask, as a picture."""

    ref: Json


@dataclass(frozen=True)
class Const:
    """A value."""

    value: Any


@dataclass(frozen=True)
class Noise:
    """A seed's noise."""

    seed: Json | int


@dataclass(frozen=True)
class Sampler:
    """The name of a sampler."""

    name: str


@dataclass(frozen=True)
class Sigmas:
    """Noise levels: how they lie, how many steps, and which of them is first."""

    scheduler: str
    steps: int
    first: int | None


@dataclass(frozen=True)
class Guider:
    """A model and the prompts that it follows."""

    model: Model
    positive: Words
    negative: Words | None = None
    cfg: float = 1.0


@dataclass(frozen=True)
class Broken:
    """Stands for what could not be translated; what reads it is not blamed."""

    why: str = field(default="", compare=False)


KINDS: dict[str, type] = {
    "MODEL": Model,
    "CLIP": Clip,
    "VAE": Vae,
    "CONDITIONING": Words,
    "LATENT": Latents,
    "IMAGE": Pictures,
    "MASK": Mask,
    "NOISE": Noise,
    "SAMPLER": Sampler,
    "SIGMAS": Sigmas,
    "GUIDER": Guider,
}
