"""The denoise loop for UNet models, one tick at a time.

    state = begin(model, request)
    while not state.finished:
        tick(model, [state])
    state.latents

A `DenoiseState` is all that a request needs between two ticks, so that requests can join and leave a batch between
steps: a tick is one forward pass of the UNet over the rows of all its states (one for each prompt; see `rows`),
then each state's own guidance and scheduler. Noise comes from the state's own CPU generator, in the order in which
diffusers' pipelines draw it, and the result equals theirs.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spindle_common.problems import BadInput
from spindle_worker.diffusion.levels import end_early, from_own_form, noise_level, to_own_form
from spindle_worker.diffusion.requests import Request
from spindle_worker.diffusion.rows import Rows, lay_out
from spindle_worker.diffusion.schedulers import make_scheduler, set_steps
from spindle_worker.models.loading import LoadedModel

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True, eq=False)
class Kept:
    """What of a picture shall stay: `mask` is 0 there, `clean` its latents, `noise` what lies on them on the way."""

    mask: "Tensor"
    clean: "Tensor"
    noise: "Tensor"


@dataclass(eq=False)
class DenoiseState:
    """One request between two steps; `prompts` are its rows in a forward pass."""

    latents: "Tensor"
    timesteps: "Tensor"
    guidance: float
    generator: "Generator"
    scheduler: Any
    prompts: Rows
    kept: Kept | None = None
    guidance_embedding: "Tensor | None" = None
    options: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    position: int = 0
    clean: "Tensor | None" = None

    @property
    def rows(self) -> int:
        """Rows that it takes in a forward pass."""
        return int(self.prompts.hidden.shape[0])

    @property
    def finished(self) -> bool:
        """Whether its latents are those of the finished picture."""
        return self.position >= len(self.timesteps)

    @property
    def steps_done(self) -> int:
        """Steps made, as the user counts them: some schedulers take several ticks for one."""
        if self.finished:
            return self.steps
        order = getattr(self.scheduler, "order", 1)
        warm_up = max(len(self.timesteps) - self.steps * order, 0)
        return max(0, min(self.steps, (self.position - warm_up) // order))

    @property
    def batch_key(self) -> tuple[object, ...]:
        """States with the same key may share a tick."""
        return (self.latents.shape, self.prompts.hidden.shape[1:], self.guidance_embedding is None)


def new_generator(seed: int) -> "Generator":
    """A request's own source of noise, on the CPU, so that a seed means the same on every device."""
    import torch

    return torch.Generator("cpu").manual_seed(seed)


def begin(model: LoadedModel, request: Request, generator: "Generator | None" = None) -> DenoiseState:
    """Lay out a request: timesteps, first latents, conditioning. Raises BadInput.

    `generator` continues one that has drawn already (for the VAE's encoding); else it starts from the seed.
    """
    generator = generator or new_generator(request.seed)
    scheduler = make_scheduler(model.pipe.scheduler, request.scheduler, request.spacing)
    set_steps(scheduler, request.steps, model.device, request.spacing)
    first, last = part(request)
    if last < request.steps and not request.leftover_noise:
        end_early(scheduler, last)
    timesteps = _timesteps(scheduler, first, last)
    noise = _noise(model, request, generator)
    latents = _first_latents(request, scheduler, first, noise)
    guided = request.guidance > 1 and model.pipe.unet.config.time_cond_proj_dim is None
    return DenoiseState(
        latents=latents,
        timesteps=timesteps,
        guidance=request.guidance,
        generator=generator,
        scheduler=scheduler,
        prompts=lay_out(model, request, guided),
        kept=_kept(request, noise),
        guidance_embedding=_guidance_embedding(model, request),
        options=_step_options(scheduler, generator),
        steps=last - first,
    )


def finished_latents(state: DenoiseState, request: Request) -> "Tensor":
    """The latents that a finished state leaves; noise that is left in them lies on top of them."""
    last = part(request)[1]
    if last >= request.steps or not request.leftover_noise:
        return state.latents
    order = getattr(state.scheduler, "order", 1)
    return from_own_form(state.scheduler, state.latents, noise_level(state.scheduler, last * order))


def tick(model: LoadedModel, states: Sequence[DenoiseState], *, clean: bool = False) -> None:
    """Advance all `states`, which must share a batch key, by one forward pass.

    With `clean`, each state's `clean` becomes the finished latents as the model sees them now.
    """
    import torch

    if len({state.batch_key for state in states}) != 1:
        raise ValueError("states of different shapes cannot share a tick")
    with torch.inference_mode():
        inputs = [_scaled(state) for state in states]
        predictions = _forward(model, states, inputs)
        for state, scaled, prediction in zip(states, inputs, predictions, strict=True):
            _advance(state, scaled, prediction, clean)


def part(request: Request) -> tuple[int, int]:
    """The first step to be made and the one behind the last: of `steps`, those that `strength` leaves, or as asked."""
    first = 0
    if request.first_step is not None:
        first = request.first_step
    elif request.start is not None:
        first = request.steps - max(1, min(int(request.steps * request.strength), request.steps))
    last = request.steps if request.last_step is None else min(request.last_step, request.steps)
    if first >= last:
        raise BadInput(f"There is no step from {first} to {last} to be made")
    return first, last


def _timesteps(scheduler: Any, first: int, last: int) -> "Tensor":
    """Timesteps to go through; those of the last step of all may be fewer than those of others."""
    order = getattr(scheduler, "order", 1)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first * order)
    whole = last >= (scheduler.num_inference_steps or last)
    return scheduler.timesteps[first * order : None if whole else last * order]  # type: ignore[no-any-return]


def _noise(model: LoadedModel, request: Request, generator: "Generator") -> "Tensor":
    import torch
    from diffusers.utils.torch_utils import randn_tensor

    cells = (request.height // model.scale, request.width // model.scale)
    shape = (1, model.pipe.unet.config.in_channels, *cells)
    for _ in range(request.noise_index):
        torch.randn(shape, generator=generator, dtype=model.dtype)
    noise = randn_tensor(shape, generator=generator, device=torch.device(model.device), dtype=model.dtype)
    if request.start is not None and request.start.tensor.shape != noise.shape:
        raise BadInput("The latents to start from do not fit this model")
    return noise  # type: ignore[no-any-return]


def _first_latents(request: Request, scheduler: Any, first: int, noise: "Tensor") -> "Tensor":
    if request.start is None and first == 0 and request.add_noise:
        return noise * scheduler.init_noise_sigma  # type: ignore[no-any-return]
    start = noise.new_zeros(noise.shape) if request.start is None else request.start.tensor.to(noise)
    tick = first * getattr(scheduler, "order", 1)
    if not request.add_noise:
        return to_own_form(scheduler, start, noise_level(scheduler, tick))
    return scheduler.add_noise(start, noise, scheduler.timesteps[tick : tick + 1])  # type: ignore[no-any-return]


def _kept(request: Request, noise: "Tensor") -> Kept | None:
    if request.start is None or request.start.mask is None:
        return None
    return Kept(request.start.mask.to(noise), request.start.tensor.to(noise), noise)


def _guidance_embedding(model: LoadedModel, request: Request) -> "Tensor | None":
    """Guidance as an input of the UNet, for models distilled with it (latent consistency models)."""
    import torch

    width = model.pipe.unet.config.time_cond_proj_dim
    if width is None:
        return None
    scale = torch.tensor([request.guidance - 1])
    embedding = model.pipe.get_guidance_scale_embedding(scale, embedding_dim=width)
    return embedding.to(device=model.device, dtype=model.dtype)  # type: ignore[no-any-return]


def _step_options(scheduler: Any, generator: "Generator") -> dict[str, Any]:
    takes = inspect.signature(scheduler.step).parameters
    given = {"eta": 0.0, "generator": generator}
    return {name: value for name, value in given.items() if name in takes}


def _scaled(state: DenoiseState) -> "Tensor":
    return state.scheduler.scale_model_input(  # type: ignore[no-any-return]
        state.latents, state.timesteps[state.position]
    )


def _forward(model: LoadedModel, states: Sequence[DenoiseState], inputs: Sequence["Tensor"]) -> Sequence["Tensor"]:
    import torch

    rows = [state.rows for state in states]
    prompts = [state.prompts for state in states]
    times = [state.timesteps[state.position].float().expand(state.rows) for state in states]
    embeddings = [state.guidance_embedding for state in states if state.guidance_embedding is not None]
    added = {name: torch.cat([each.added[name] for each in prompts]) for name in prompts[0].added}
    predicted = model.pipe.unet(
        torch.cat([scaled.expand(count, -1, -1, -1) for scaled, count in zip(inputs, rows, strict=True)]),
        torch.cat(times),
        encoder_hidden_states=torch.cat([each.hidden for each in prompts]),
        timestep_cond=torch.cat(embeddings) if embeddings else None,
        added_cond_kwargs=added or None,
        return_dict=False,
    )[0]
    return predicted.split(rows)  # type: ignore[no-any-return]


def _advance(state: DenoiseState, scaled: "Tensor", prediction: "Tensor", clean: bool) -> None:
    prediction = state.prompts.combined(prediction, state.guidance)
    timestep = state.timesteps[state.position]
    if clean:
        state.clean = predicted_clean(state.scheduler, scaled, prediction, timestep)
    moved = state.scheduler.step(prediction, timestep, state.latents, **state.options, return_dict=False)[0]
    state.latents = moved.to(state.latents.dtype)
    state.position += 1
    if state.kept is not None:
        state.latents = _with_kept(state, state.kept)


def _with_kept(state: DenoiseState, kept: Kept) -> "Tensor":
    """Put back what shall stay, as noisy as the rest is now (Lugmayr et al. 2022, eq. 8; so does diffusers)."""
    known = kept.clean
    if not state.finished:
        known = state.scheduler.add_noise(known, kept.noise, state.timesteps[state.position : state.position + 1])
    return kept.mask * state.latents + (1 - kept.mask) * known


def predicted_clean(scheduler: Any, scaled: "Tensor", prediction: "Tensor", timestep: "Tensor") -> "Tensor":
    """The finished latents as the model sees them now, whatever the scheduler.

    `scaled` is what the model was fed: sqrt(a) x0 + sqrt(1 - a) noise with a = alphas_cumprod[t], also for schedulers
    that keep their own samples scaled otherwise. The rest follows from what the model predicts (DDPM, eq. 15; Salimans
    and Ho 2022, appendix D). Timesteps between two trained ones are rounded: this serves previews.
    """
    alphas = getattr(scheduler, "alphas_cumprod", None)
    kind = getattr(scheduler.config, "prediction_type", "epsilon")
    if alphas is None or kind == "sample":
        return prediction if kind == "sample" else scaled
    index = max(0, min(round(float(timestep)), len(alphas) - 1))
    signal = max(float(alphas[index]), 1e-4)
    root, noise = signal**0.5, (1 - signal) ** 0.5
    if kind == "v_prediction":
        return root * scaled - noise * prediction  # type: ignore[no-any-return]
    return (scaled - noise * prediction) / root  # type: ignore[no-any-return]
