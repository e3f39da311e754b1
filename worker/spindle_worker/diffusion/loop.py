"""The denoise loop for UNet models, one tick at a time.

    state = begin(model, request)
    while not state.finished:
        tick(model, [state])
    state.latents

A `DenoiseState` is all that a request needs between two ticks, so that requests can join and leave a batch between
steps: a tick is one forward pass of the UNet over the rows of all its states (two a state with guidance, else one),
then each state's own guidance and scheduler. Noise comes from the state's own CPU generator, in the order in which
diffusers' pipelines draw it, and the result equals theirs.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spindle_common.problems import BadInput
from spindle_worker.diffusion.requests import Request
from spindle_worker.diffusion.schedulers import make_scheduler, set_steps
from spindle_worker.models.loading import LoadedModel

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(eq=False)
class DenoiseState:
    """One request between two steps. `hidden` and `added` hold `rows` rows: negative first, then positive."""

    latents: "Tensor"
    timesteps: "Tensor"
    guidance: float
    generator: "Generator"
    scheduler: Any
    hidden: "Tensor"
    added: dict[str, "Tensor"] = field(default_factory=dict)
    guidance_embedding: "Tensor | None" = None
    options: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    position: int = 0
    clean: "Tensor | None" = None

    @property
    def rows(self) -> int:
        """Rows that it takes in a forward pass."""
        return int(self.hidden.shape[0])

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
        return (self.latents.shape, self.hidden.shape[1:], self.guidance_embedding is None)


def new_generator(seed: int) -> "Generator":
    """A request's own source of noise, on the CPU, so that a seed means the same on every device."""
    import torch

    return torch.Generator("cpu").manual_seed(seed)


def begin(model: LoadedModel, request: Request, generator: "Generator | None" = None) -> DenoiseState:
    """Lay out a request: timesteps, first latents, conditioning. Raises BadInput.

    `generator` continues one that has drawn already (for the VAE's encoding); else it starts from the seed.
    """
    generator = generator or new_generator(request.seed)
    scheduler = make_scheduler(model.pipe.scheduler, request.scheduler)
    set_steps(scheduler, request.steps, model.device)
    timesteps, steps = _timesteps(scheduler, request)
    latents = _first_latents(model, request, scheduler, timesteps, generator)
    guided = request.guidance > 1 and model.pipe.unet.config.time_cond_proj_dim is None
    hidden, added = _conditioning(model, request, guided)
    return DenoiseState(
        latents=latents,
        timesteps=timesteps,
        guidance=request.guidance,
        generator=generator,
        scheduler=scheduler,
        hidden=hidden,
        added=added,
        guidance_embedding=_guidance_embedding(model, request),
        options=_step_options(scheduler, generator),
        steps=steps,
    )


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


def _timesteps(scheduler: Any, request: Request) -> tuple["Tensor", int]:
    """Timesteps to go through and the steps they make; less than all where the picture grows out of another."""
    order = getattr(scheduler, "order", 1)
    first, steps = 0, request.steps
    if request.start is not None:
        steps = max(1, min(int(request.steps * request.strength), request.steps))
        first = (request.steps - steps) * order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    return scheduler.timesteps[first:], steps


def _first_latents(
    model: LoadedModel, request: Request, scheduler: Any, timesteps: "Tensor", generator: "Generator"
) -> "Tensor":
    import torch
    from diffusers.utils.torch_utils import randn_tensor

    cells = (request.height // model.scale, request.width // model.scale)
    shape = (1, model.pipe.unet.config.in_channels, *cells)
    noise = randn_tensor(shape, generator=generator, device=torch.device(model.device), dtype=model.dtype)
    if request.start is None:
        return noise * scheduler.init_noise_sigma  # type: ignore[no-any-return]
    start = request.start.tensor.to(device=model.device, dtype=model.dtype)
    if start.shape != noise.shape:
        raise BadInput("The latents to start from do not fit this model")
    return scheduler.add_noise(start, noise, timesteps[:1])  # type: ignore[no-any-return]


def _conditioning(model: LoadedModel, request: Request, guided: bool) -> tuple["Tensor", dict[str, "Tensor"]]:
    words = request.conditioning
    hidden = _rows(words.negative, words.positive, guided)
    if model.layout != "sdxl":
        return hidden, {}
    import torch

    size = (request.height, request.width)
    time_ids = torch.tensor([[*size, 0, 0, *size]] * len(hidden), dtype=hidden.dtype, device=hidden.device)
    pooled = _rows(words.negative_pooled, words.pooled, guided)
    return hidden, {"text_embeds": pooled, "time_ids": time_ids}


def _rows(negative: "Tensor | None", positive: "Tensor | None", guided: bool) -> "Tensor":
    import torch

    if positive is None or (guided and negative is None):
        raise BadInput("The conditioning was not made for this model")
    return torch.cat([negative, positive]) if guided and negative is not None else positive


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
    times = [state.timesteps[state.position].float().expand(state.rows) for state in states]
    embeddings = [state.guidance_embedding for state in states if state.guidance_embedding is not None]
    added = {name: torch.cat([state.added[name] for state in states]) for name in states[0].added}
    predicted = model.pipe.unet(
        torch.cat([scaled.expand(count, -1, -1, -1) for scaled, count in zip(inputs, rows, strict=True)]),
        torch.cat(times),
        encoder_hidden_states=torch.cat([state.hidden for state in states]),
        timestep_cond=torch.cat(embeddings) if embeddings else None,
        added_cond_kwargs=added or None,
        return_dict=False,
    )[0]
    return predicted.split(rows)  # type: ignore[no-any-return]


def _advance(state: DenoiseState, scaled: "Tensor", prediction: "Tensor", clean: bool) -> None:
    if state.rows == 2:
        negative, positive = prediction.chunk(2)
        prediction = negative + state.guidance * (positive - negative)
    timestep = state.timesteps[state.position]
    if clean:
        state.clean = predicted_clean(state.scheduler, scaled, prediction, timestep)
    moved = state.scheduler.step(prediction, timestep, state.latents, **state.options, return_dict=False)[0]
    state.latents = moved.to(state.latents.dtype)
    state.position += 1


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
