"""Schedulers by name: which class of diffusers each is, and with which options.

A scheduler is built anew for each request, from the configuration of the model's own (betas, prediction type, spacing),
so that two requests never share state. Models that learnt flow matching (FLUX, SD 3) know two names only.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from spindle_common.problems import BadInput

SchedulerName = Literal[
    "ddim",
    "ddpm",
    "deis",
    "dpmpp_2m",
    "dpmpp_2m_karras",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_karras",
    "dpmpp_2s",
    "euler",
    "euler_a",
    "heun",
    "lcm",
    "pndm",
    "tcd",
    "unipc",
]
NAMES: tuple[str, ...] = get_args(SchedulerName)

_KARRAS = {"use_karras_sigmas": True}
_SDE = {"algorithm_type": "sde-dpmsolver++"}
TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", _KARRAS),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", _SDE),
    "dpmpp_2m_sde_karras": ("DPMSolverMultistepScheduler", _SDE | _KARRAS),
    "dpmpp_2s": ("DPMSolverSinglestepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "tcd": ("TCDScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
FLOW_TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "heun": ("FlowMatchHeunDiscreteScheduler", {}),
}
_LATENT_DEFAULTS = {"clip_sample": False}
"""Several classes clip pictures to [-1, 1] unless told otherwise, which spoils latents."""


def make_scheduler(own: Any, name: str | None = None) -> Any:
    """Build a fresh scheduler: the class called `name`, or that of the model's `own`. Raises BadInput."""
    if name is None:
        return type(own).from_config(own.config)
    import diffusers

    flow = type(own).__name__.startswith("FlowMatch")
    table: Mapping[str, tuple[str, dict[str, Any]]] = FLOW_TABLE if flow else TABLE
    if name not in table:
        raise BadInput(f"This model has no scheduler {name!r}; it takes {', '.join(table)}")
    class_name, options = table[name]
    config = _LATENT_DEFAULTS | dict(own.config)
    return getattr(diffusers, class_name).from_config(config, **options)


def set_steps(scheduler: Any, steps: int, device: str) -> None:
    """Lay out the timesteps. Raises BadInput where the scheduler cannot take that many."""
    try:
        scheduler.set_timesteps(steps, device=device)
    except ValueError as error:
        raise BadInput(f"The scheduler cannot take {steps} steps: {error}") from error
    known = scheduler.config.get("num_train_timesteps", 1000)
    if not scheduler.timesteps.is_floating_point() and int(scheduler.timesteps.max()) >= known:
        raise BadInput(f"The scheduler cannot take {steps} steps: the model knows {known} timesteps")
