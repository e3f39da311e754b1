"""Builds a model from its folder: the diffusers pipeline, and what our code needs to know of it.

`layout` says who owns the denoise loop: "sd" (one text encoder) and "sdxl" (two, with pooled embeddings and size
conditioning) are UNets that run through `spindle_worker.diffusion.loop`; "vae" is a VAE alone; "pipeline" any other.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from spindle_worker.models.adapters import AdapterFile, lay_over, read_laid
from spindle_worker.models.device import ignore_harmless_warnings, memory_errors, resolve_dtype
from spindle_worker.models.errors import ModelRefused
from spindle_worker.models.library import Entry, Recommended
from spindle_worker.models.weights import VAE_CLASSES

Layout = Literal["sd", "sdxl", "pipeline", "vae"]
LAYOUTS: dict[str, Layout] = {
    "StableDiffusionPipeline": "sd",
    "StableDiffusionImg2ImgPipeline": "sd",
    "LatentConsistencyModelPipeline": "sd",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusionXLImg2ImgPipeline": "sdxl",  # the refiner
}

log = logging.getLogger(__name__)


@dataclass(eq=False)
class LoadedModel:
    """A model in memory. Its modules are shared by all requests; nothing here changes after loading but `memo`."""

    name: str
    digest: str
    layout: Layout
    pipe: Any
    device: str
    dtype: Any
    size: int
    recommended: Recommended = field(default_factory=Recommended)
    adapters: tuple[Mapping[str, Any], ...] = ()
    memo: dict[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> dict[str, Any]:
        """The value that names this model in a workflow."""
        return {"model": self.name, "digest": self.digest, "adapters": [dict(each) for each in self.adapters]}

    @property
    def scale(self) -> int:
        """Pixels along the side of one latent cell."""
        return int(getattr(self.pipe, "vae_scale_factor", 8))


@dataclass(frozen=True)
class Adapters:
    """What is laid over a model: adapters as its recipe has them, with their files."""

    laid: Sequence[Mapping[str, Any]] = ()
    files: Sequence[AdapterFile] = ()


def load(entry: Entry, device: str, dtype: str, adapters: Adapters = Adapters()) -> LoadedModel:
    """Load a model into `device`. Raises ModelRefused, OutOfMemory."""
    layout = layout_of(entry.contents.pipeline)
    torch_dtype = resolve_dtype(dtype, device, unet=layout != "pipeline")
    ignore_harmless_warnings()
    with memory_errors():
        pipe = _pipeline(entry, torch_dtype)
        pipe.set_progress_bar_config(disable=True)
        if adapters.files and layout == "vae":
            raise ModelRefused(f"The model {entry.name} is a VAE alone, over which no adapters go")
        if adapters.files:
            lay_over(pipe, adapters.files, read_laid(adapters.laid))
        pipe.to(device)
        _prepare(pipe, layout)
    size = sum(_bytes(part) for part in pipe.components.values())
    about = (entry.name, entry.digest, layout, pipe, device, torch_dtype, size, entry.recommended)
    return LoadedModel(*about, adapters=tuple(adapters.laid))


def layout_of(pipeline: str) -> Layout:
    """Which layout a class of diffusers has."""
    return "vae" if pipeline.startswith(VAE_CLASSES) else LAYOUTS.get(pipeline, "pipeline")


class LoneVae:
    """A VAE with as much of a pipeline around it as decoding and encoding need."""

    def __init__(self, vae: Any) -> None:
        self.vae = vae
        self.components = {"vae": vae}
        levels = getattr(vae.config, "block_out_channels", None) or vae.config.encoder_block_out_channels
        self.vae_scale_factor = 2 ** (len(levels) - 1)

    def to(self, device: str) -> None:
        """Move it."""
        self.vae.to(device)

    def set_progress_bar_config(self, **_options: Any) -> None:
        """It shows no progress."""


def _lone_vae(entry: Entry, dtype: Any) -> LoneVae:
    import diffusers

    cls: Any = getattr(diffusers, entry.contents.pipeline, None)
    if cls is None:
        raise ModelRefused(f"The model {entry.name} is of a class that diffusers does not have")
    options = {"torch_dtype": dtype, "use_safetensors": True, "local_files_only": True}
    try:
        return LoneVae(cls.from_pretrained(str(entry.folder), variant=entry.contents.variant, **options))
    except MemoryError:
        raise
    except Exception as error:  # a folder is whatever someone put there
        raise _refusal(entry, error) from error


def _pipeline(entry: Entry, dtype: Any) -> Any:
    import diffusers

    if layout_of(entry.contents.pipeline) == "vae":
        return _lone_vae(entry, dtype)
    named = getattr(diffusers, entry.contents.pipeline, None)
    if not (isinstance(named, type) and issubclass(named, diffusers.DiffusionPipeline)):
        raise ModelRefused(f"The model {entry.name} is of a class that diffusers does not have")
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "local_files_only": True}
    if entry.contents.variant:
        options["variant"] = entry.contents.variant
    cls: Any = named
    if "safety_checker" in cls.__init__.__annotations__:
        options |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    try:
        return cls.from_pretrained(str(entry.folder), **options)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error):
            raise
        raise _refusal(entry, error) from error
    except Exception as error:  # a folder is whatever someone put there
        raise _refusal(entry, error) from error


def _refusal(entry: Entry, error: Exception) -> ModelRefused:
    log.warning("model %s cannot be loaded", entry.name, exc_info=error)
    return ModelRefused(f"The model {entry.name} cannot be loaded ({type(error).__name__}); the worker's log says more")


def _prepare(pipe: Any, layout: Layout) -> None:
    """Set modules for inference; a VAE that overflows in half precision stays in float32."""
    import torch

    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    if layout == "pipeline":
        return
    vae = pipe.vae
    if layout != "vae" and pipe.unet.config.in_channels != vae.config.latent_channels:
        raise ModelRefused("The model's UNet takes more than latents (inpainting?); such models are not run yet")
    if vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False):
        vae.to(torch.float32)


def _bytes(part: Any) -> int:
    import torch

    if not isinstance(part, torch.nn.Module):
        return 0
    return sum(t.numel() * t.element_size() for t in [*part.parameters(), *part.buffers()])
