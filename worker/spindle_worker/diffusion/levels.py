"""How much noise is where: noise levels of a scheduler's positions, and the two forms that latents with noise take.

Schedulers from Karras et al. 2022 keep clean latents + sigma x noise (variance exploding); the others keep the same
divided by sqrt(1 + sigma^2) (variance preserving). What leaves the loop is always of the first form, so that steps made
by one scheduler can be followed by steps of another.
"""

from typing import TYPE_CHECKING, Any

from spindle_common.problems import BadInput

if TYPE_CHECKING:
    from torch import Tensor

_EXPLODING = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
)
_CAN_END_EARLY = (*_EXPLODING[:3], "DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler")


def noise_level(scheduler: Any, position: int) -> float:
    """Sigma at a position among the scheduler's timesteps; 0 behind the last."""
    if position >= len(scheduler.timesteps):
        return 0.0
    if _has_sigmas(scheduler):
        return float(scheduler.sigmas[position])
    signal = float(scheduler.alphas_cumprod[int(scheduler.timesteps[position])])
    return float(((1 - signal) / max(signal, 1e-8)) ** 0.5)


def to_own_form(scheduler: Any, latents: "Tensor", sigma: float) -> "Tensor":
    """From clean + sigma x noise to what the scheduler's `step` takes."""
    return latents if type(scheduler).__name__ in _EXPLODING else latents / (1 + sigma**2) ** 0.5


def from_own_form(scheduler: Any, latents: "Tensor", sigma: float) -> "Tensor":
    """From what the scheduler's `step` gives to clean + sigma x noise."""
    return latents if type(scheduler).__name__ in _EXPLODING else latents * (1 + sigma**2) ** 0.5


def end_early(scheduler: Any, last_step: int) -> None:
    """Have step `last_step`, not the last one, take all noise away. Raises BadInput where the scheduler cannot."""
    import torch

    if type(scheduler).__name__ not in _CAN_END_EARLY:
        raise BadInput(f"{type(scheduler).__name__} cannot end before its last step without leaving noise")
    ticks = last_step * scheduler.order - (scheduler.order - 1)
    scheduler.timesteps = scheduler.timesteps[:ticks]
    scheduler.sigmas = torch.cat([scheduler.sigmas[:ticks], scheduler.sigmas.new_zeros(1)])
    scheduler.num_inference_steps = last_step


def _has_sigmas(scheduler: Any) -> bool:
    sigmas = getattr(scheduler, "sigmas", None)
    return sigmas is not None and len(sigmas) > len(scheduler.timesteps)
