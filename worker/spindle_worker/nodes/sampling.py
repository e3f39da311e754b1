"""The ports that every node with a denoise loop shares, and what they mean where they are left unset."""

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from spindle_common.problems import BadInput
from spindle_worker.diffusion import Conditioning, Request, SchedulerName
from spindle_worker.models import LoadedModel
from spindle_worker.node import Context, Field, Inputs, ModelRef

MAX_PROMPT = 20_000
MAX_SEED = 2**53 - 1
"""As large as every JSON reader keeps exactly."""
MAX_SIDE = 2048


class Words(Inputs):
    """Prompt ports."""

    prompt: str = Field(max_length=MAX_PROMPT, description="What the picture shows.")
    negative_prompt: str = Field("", max_length=MAX_PROMPT, description="What it does not show.")


class Sampling(Inputs):
    """Ports of the loop."""

    steps: int | None = Field(None, ge=1, le=1000, description="Denoising steps; unset: the model's own number.")
    guidance: float | None = Field(
        None, ge=0, le=100, description="How closely it keeps to the prompt (CFG scale); up to 1: no guidance."
    )
    seed: int | None = Field(None, ge=0, le=MAX_SEED, description="Decides the noise; unset: drawn for the run.")
    scheduler: SchedulerName | None = Field(None, description="How it steps; unset: the model's own scheduler.")
    model: ModelRef | None = Field(None, description="A configured model; unset: the default one.")


class Sized(Sampling):
    """Ports of the loop where the picture's size is free."""

    width: int | None = Field(
        None, ge=16, le=MAX_SIDE, multiple_of=8, description="Pixels; unset: what the model recommends."
    )
    height: int | None = Field(
        None, ge=16, le=MAX_SIDE, multiple_of=8, description="Pixels; unset: what the model recommends."
    )


@contextlib.contextmanager
def loaded(ctx: Context, recipe: Mapping[str, Any] | None) -> Iterator[LoadedModel]:
    """Use a model, saying so when it has to be loaded first."""
    if not ctx.models.is_loaded(recipe):
        name = (recipe or {}).get("model") or ctx.models.library.default
        ctx.progress(0, 1, f"loading the model {name}")
    with ctx.models.use(recipe, ctx.check_cancelled) as model:
        yield model


def request(
    ctx: Context,
    model: LoadedModel,
    inputs: Sampling,
    words: Conditioning,
    size: tuple[int | None, int | None],
    **start: Any,
) -> Request:
    """Fill in what was left unset; `start` may hold the latents to start from and the strength."""
    usual = usual_settings(model)
    return Request(
        conditioning=words,
        steps=usual["steps"] if inputs.steps is None else inputs.steps,
        guidance=guidance(model, inputs),
        seed=ctx.seed_for() if inputs.seed is None else inputs.seed,
        width=size[0] or usual["width"],
        height=size[1] or usual["height"],
        scheduler=inputs.scheduler,
        **start,
    )


def guidance(model: LoadedModel, inputs: Sampling) -> float:
    """The guidance asked for, or the model's own."""
    return float(usual_settings(model)["guidance"] if inputs.guidance is None else inputs.guidance)


def usual_settings(model: LoadedModel) -> dict[str, Any]:
    """What the model recommends; where it is silent, what its pipeline does by default. Raises BadInput."""
    refuse_lone_vae(model)
    if "usual" not in model.memo:
        model.memo["usual"] = _pipeline_defaults(model) | model.recommended.model_dump(exclude_none=True)
    return model.memo["usual"]  # type: ignore[no-any-return]


def refuse_lone_vae(model: LoadedModel) -> None:
    """Refuse a model that is a VAE and nothing else. Raises BadInput."""
    if model.layout == "vae":
        raise BadInput(f"The model {model.name} is a VAE alone: it makes no pictures")


def _pipeline_defaults(model: LoadedModel) -> dict[str, Any]:
    takes = inspect.signature(type(model.pipe).__call__).parameters
    steps, scale = takes.get("num_inference_steps"), takes.get("guidance_scale")
    size = getattr(model.pipe, "default_sample_size", None) or model.pipe.unet.config.sample_size
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return {
        "steps": steps.default if steps else 30,
        "guidance": scale.default if scale else 7.5,
        "width": _side(width * model.scale),
        "height": _side(height * model.scale),
    }


def _side(pixels: int) -> int:
    return max(16, min(MAX_SIDE, pixels // 8 * 8))
