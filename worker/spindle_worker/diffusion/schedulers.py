"""Schedulers by name: which class of diffusers each is, and with which options.

A scheduler is built anew for each request, from the configuration of the model's own (betas, prediction type, spacing),
so that two requests never share state. Models that learnt flow matching (FLUX, SD 3) know two names only.

Beside the name, a spacing says how the noise levels lie: evenly over the trained timesteps with both ends (`linspace`),
counted from the start (`leading`) or from the end (`trailing`; Lin et al. 2023, table 2), or along a curve in sigma
(`karras`: Karras et al. 2022, eq. 5; `exponential`). Not every class knows every spacing.
"""

import inspect
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
    "dpmpp_2m_sde_heun",
    "dpmpp_2m_sde_karras",
    "dpmpp_2s",
    "dpm2",
    "dpm2_a",
    "euler",
    "euler_a",
    "heun",
    "lcm",
    "pndm",
    "tcd",
    "unipc",
    "unipc_bh1",
]
Spacing = Literal["linspace", "leading", "trailing", "karras", "exponential"]
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
    "dpmpp_2m_sde_heun": ("DPMSolverMultistepScheduler", _SDE | {"solver_type": "heun"}),
    "dpmpp_2m_sde_karras": ("DPMSolverMultistepScheduler", _SDE | _KARRAS),
    "dpmpp_2s": ("DPMSolverSinglestepScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "dpm2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "tcd": ("TCDScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    # B_1 of the paper is h itself: no step of it reaches sigma 0, where h is infinite
    "unipc_bh1": ("UniPCMultistepScheduler", {"solver_type": "bh1", "final_sigmas_type": "sigma_min"}),
}
FLOW_TABLE: dict[str, tuple[str, dict[str, Any]]] = {
    "euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "heun": ("FlowMatchHeunDiscreteScheduler", {}),
}
_LATENT_DEFAULTS = {"clip_sample": False}
"""Several classes clip pictures to [-1, 1] unless told otherwise, which spoils latents."""


_EVEN = ("linspace", "leading", "trailing")
_CURVES = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas", "beta": "use_beta_sigmas"}
_COUNTED = ("LCMScheduler", "TCDScheduler")
"""Classes that ignore `timestep_spacing`, but take timesteps as they are given."""


def make_scheduler(own: Any, name: str | None = None, spacing: Spacing | None = None) -> Any:
    """Build a fresh scheduler: the class called `name`, or that of the model's `own`. Raises BadInput."""
    if name is None and spacing is None:
        return type(own).from_config(own.config)
    import diffusers

    flow = type(own).__name__.startswith("FlowMatch")
    table: Mapping[str, tuple[str, dict[str, Any]]] = FLOW_TABLE if flow else TABLE
    if name is not None and name not in table:
        raise BadInput(f"This model has no scheduler {name!r}; it takes {', '.join(table)}")
    class_name, options = table[name] if name else (type(own).__name__, {})
    cls = getattr(diffusers, class_name)
    if spacing is not None:
        options = options | _spaced(cls, spacing, flow=flow)
    config = _LATENT_DEFAULTS | dict(own.config)
    return cls.from_config(config, **options)


def _spaced(cls: Any, spacing: Spacing, *, flow: bool) -> dict[str, Any]:
    """The options that make a class space its noise levels so. Raises BadInput where it cannot."""
    takes = inspect.signature(cls.__init__).parameters
    options = {flag: _CURVES.get(spacing) == flag for flag in _CURVES.values() if flag in takes}
    if spacing in _CURVES:
        if _CURVES[spacing] not in takes:
            raise BadInput(f"{cls.__name__} cannot space its noise levels {spacing!r}")
        return options | ({"timestep_spacing": "linspace"} if "timestep_spacing" in takes else {})
    if "timestep_spacing" in takes:
        return options | {"timestep_spacing": spacing, "steps_offset": int(spacing == "leading")}
    if not flow and spacing != "linspace":
        raise BadInput(f"{cls.__name__} cannot space its noise levels {spacing!r}")
    return options


def set_steps(scheduler: Any, steps: int, device: str, spacing: Spacing | None = None) -> None:
    """Lay out the timesteps. Raises BadInput where the scheduler cannot take that many."""
    known = scheduler.config.get("num_train_timesteps", 1000)
    try:
        if type(scheduler).__name__ in _COUNTED and spacing in _EVEN:
            scheduler.set_timesteps(timesteps=_even(spacing, steps, known), device=device)
        else:
            scheduler.set_timesteps(steps, device=device)
    except ValueError as error:
        raise BadInput(f"The scheduler cannot take {steps} steps: {error}") from error
    if not scheduler.timesteps.is_floating_point() and int(scheduler.timesteps.max()) >= known:
        raise BadInput(f"The scheduler cannot take {steps} steps: the model knows {known} timesteps")


def _even(spacing: str, steps: int, known: int) -> list[int]:
    if spacing == "linspace":
        return [round((known - 1) * (1 - at / max(1, steps - 1))) for at in range(steps)]
    if spacing == "trailing":
        return [round(known * (1 - at / steps)) - 1 for at in range(steps)]
    return [known // steps * at + 1 for at in reversed(range(steps))]
