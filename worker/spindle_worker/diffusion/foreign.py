"""Models whose denoise loop we do not own (FLUX, SD 3 and whatever diffusers brings): their pipeline runs it, and its
step callback reports progress, shows previews and stops it by raising.
"""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from PIL import Image

from spindle_common.problems import BadInput
from spindle_worker.diffusion.codec import latent_space, unpacked
from spindle_worker.diffusion.loop import new_generator
from spindle_worker.diffusion.preview import Previews
from spindle_worker.diffusion.requests import LatentBatch, Request, Watch
from spindle_worker.diffusion.schedulers import make_scheduler
from spindle_worker.models.loading import LoadedModel

if TYPE_CHECKING:
    from torch import Tensor


def run_pipeline(model: LoadedModel, request: Request, watch: Watch, picture: Image.Image | None = None) -> Image.Image:
    """Make a picture, out of `picture` if one is given. Raises BadInput where the pipeline refuses the request."""
    found = _call(model, request, watch, picture, "pil")
    return found[0] if isinstance(found[0], Image.Image) else _refuse_frames()


def run_pipeline_latents(model: LoadedModel, request: Request, watch: Watch) -> LatentBatch:
    """Make latents, out of `request.start` if it has one."""
    start = None if request.start is None else request.start.tensor
    if start is not None and start.ndim == 3:
        start = unpacked(model, start, request.width, request.height)
    found = _call(model, request, watch, start, "latent")
    return LatentBatch(model.recipe, found, request.width, request.height, space=latent_space(model))


def _refuse_frames() -> Image.Image:
    raise BadInput("This model makes no single pictures")


def _call(model: LoadedModel, request: Request, watch: Watch, start: Any, output: str) -> Any:
    import torch

    _refuse_parts(request)
    pipe = _fresh(model, request, start is not None)
    takes = inspect.signature(pipe.__call__).parameters
    given = _arguments(request, start) | _guidance(pipe, request) | {"output_type": output}
    try:
        with torch.inference_mode(), Previews(model, request, watch) as previews:
            given["callback_on_step_end"] = _callback(request, watch, previews)
            return pipe(**{name: value for name, value in given.items() if name in takes}).images
    except (ValueError, TypeError) as error:
        raise BadInput(f"{type(pipe).__name__} refuses this request: {error}") from error


def _fresh(model: LoadedModel, request: Request, from_picture: bool) -> Any:
    """A pipeline of the right kind over the model's shared modules, with a scheduler of its own."""
    from diffusers import AutoPipelineForImage2Image, AutoPipelineForText2Image

    auto = AutoPipelineForImage2Image if from_picture else AutoPipelineForText2Image
    try:
        pipe = auto.from_pipe(model.pipe)
    except ValueError as error:
        raise BadInput(f"{type(model.pipe).__name__} cannot do this") from error
    own = getattr(model.pipe, "scheduler", None)
    if own is not None:
        pipe.register_modules(scheduler=make_scheduler(own, request.scheduler, request.spacing))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _refuse_parts(request: Request) -> None:
    """Refuse what only a loop of our own can do. Raises BadInput."""
    words = request.negative or request.conditioning
    asked = {
        "several prompts at once": request.conditioning.others or words.others,
        "a zeroed prompt": request.conditioning.zeroed or (words.zeroed and request.guidance > 1),
        "a part of the steps": request.last_step not in {None, request.steps} or request.leftover_noise,
        "latents without fresh noise": not request.add_noise,
        "a mask": request.start is not None and request.start.mask is not None,
        "a batch's further noise": request.noise_index,
        "steps counted so": request.spacing == "leading",
    }
    if wrong := [what for what, is_asked in asked.items() if is_asked]:
        raise BadInput(f"This model's own pipeline makes its pictures, and it cannot take {', '.join(wrong)}")


def _arguments(request: Request, start: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "prompt": request.conditioning.prompt,
        "num_inference_steps": request.steps,
        "guidance_scale": request.guidance,
        "width": request.width,
        "height": request.height,
        "generator": new_generator(request.seed),
    }
    if negative := _negative(request):
        given["negative_prompt"] = negative
    if start is not None:
        given |= {"image": start, "strength": _strength(request)}
    if request.spacing in {"linspace", "trailing"}:
        last = 1 / request.steps if request.spacing == "trailing" else 1e-3
        gap = (1 - last) / max(1, request.steps - 1)
        given["sigmas"] = [1 - gap * at for at in range(request.steps)]
    return given


def _negative(request: Request) -> str | None:
    """The words that are not wanted; of a prompt of their own also if they are none."""
    if request.negative is not None:
        return None if request.negative.zeroed else request.negative.prompt
    return request.conditioning.negative_prompt or None


def _strength(request: Request) -> float:
    """Pipelines count back from the end: a hair less than the part that is asked for makes as many steps."""
    if request.first_step is None:
        return request.strength
    return max(1e-6, (request.steps - request.first_step) / request.steps - 1e-6)


def _guidance(pipe: Any, request: Request) -> dict[str, Any]:
    """Guidance twice, where a model learnt it as an input: that one, and the usual one against a negative prompt."""
    distilled = request.conditioning.distilled_guidance
    if distilled is None and request.negative is None:
        return {}
    config = getattr(getattr(pipe, "transformer", None), "config", None)
    if not getattr(config, "guidance_embeds", False):
        return {"true_cfg_scale": request.guidance}
    return {"guidance_scale": request.guidance if distilled is None else distilled, "true_cfg_scale": request.guidance}


def _callback(request: Request, watch: Watch, previews: Previews) -> Callable[..., dict[str, Any]]:
    before: list[Tensor] = []

    def each_step(pipe: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        del timestep
        total = int(getattr(pipe, "num_timesteps", request.steps))
        watch.progress(min(step + 1, total), total)
        latents = given.get("latents")
        if latents is not None and step + 1 < total and previews.wanted():
            clean = _clean(pipe.scheduler, before[0] if before else latents, latents)
            previews.offer(clean)
        before[:] = [] if latents is None else [latents]
        return {}

    return each_step


def _clean(scheduler: Any, before: "Tensor", after: "Tensor") -> "Tensor":
    """The finished latents as a flow-matching model sees them: follow its last step, a straight line, to the end."""
    sigmas, index = getattr(scheduler, "sigmas", None), getattr(scheduler, "step_index", None)
    if sigmas is None or not index or index >= len(sigmas) or not type(scheduler).__name__.startswith("FlowMatch"):
        return after
    was, now = float(sigmas[index - 1]), float(sigmas[index])
    return after if was == now else after - now * (after - before) / (now - was)
