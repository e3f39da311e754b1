"""ComfyUI's samplers and schedulers, and what they are here.

Source: the two tables of diffusers' documentation, "Schedulers" overview (A1111/k-diffusion to diffusers; noise
schedules and schedule types), https://huggingface.co/docs/diffusers/api/schedulers/overview. Beyond them, and from the
definitions in ComfyUI's comfy/samplers.py: `ddim` is `euler` there; `normal` lays timesteps evenly from first to last
(`linspace`), `ddim_uniform` counts from the start (`leading`); `_gpu` says only where noise is drawn; `uni_pc` is
UniPC with B_1, `uni_pc_bh2` with B_2. A sampler that stands in neither is not translated: its nearest kin would make
another picture.
"""

SOURCE = "https://huggingface.co/docs/diffusers/api/schedulers/overview"

SAMPLERS: dict[str, str] = {
    "euler": "euler",
    "euler_ancestral": "euler_a",
    "heun": "heun",
    "dpm_2": "dpm2",
    "dpm_2_ancestral": "dpm2_a",
    "dpmpp_sde": "dpmpp_2s",
    "dpmpp_sde_gpu": "dpmpp_2s",
    "dpmpp_2m": "dpmpp_2m",
    "dpmpp_2m_sde": "dpmpp_2m_sde",
    "dpmpp_2m_sde_gpu": "dpmpp_2m_sde",
    "dpmpp_2m_sde_heun": "dpmpp_2m_sde_heun",
    "dpmpp_2m_sde_heun_gpu": "dpmpp_2m_sde_heun",
    "ddpm": "ddpm",
    "lcm": "lcm",
    "deis": "deis",
    "ddim": "euler",
    "uni_pc": "unipc_bh1",
    "uni_pc_bh2": "unipc",
}
SPACINGS: dict[str, str] = {
    "normal": "linspace",
    "karras": "karras",
    "exponential": "exponential",
    "sgm_uniform": "trailing",
    "simple": "trailing",
    "ddim_uniform": "leading",
}

# Which spacings the class behind each name knows (its constructor's options); the even ones are known to all others.
_EVEN = frozenset({"linspace", "leading", "trailing"})
_CURVED = frozenset({"karras", "exponential"})
_KNOWN: dict[str, frozenset[str]] = {
    "euler_a": _EVEN,
    "ddpm": _EVEN,
    "lcm": _EVEN,
    "dpmpp_2s": frozenset({"linspace"}) | _CURVED,
}

REMARKS: dict[str, str] = {
    "dpmpp_sde": "diffusers' table names DPMSolverSinglestepScheduler for it, which adds no noise on the way",
    "dpmpp_sde_gpu": "diffusers' table names DPMSolverSinglestepScheduler for it, which adds no noise on the way",
}
REFUSED_SAMPLERS: dict[str, str] = {
    "lms": "LMSDiscreteScheduler needs SciPy, which our workers do not have",
    "dpmpp_2s_ancestral": "diffusers' table says there is none",
    "dpm_fast": "diffusers' table says there is none",
    "dpm_adaptive": "diffusers' table says there is none",
    "dpmpp_3m_sde": "diffusers' third-order SDE step has another sign in its last term",
    "dpmpp_3m_sde_gpu": "diffusers' third-order SDE step has another sign in its last term",
}
REFUSED_SPACINGS: dict[str, str] = {"beta": "use_beta_sigmas needs SciPy, which our workers do not have"}

IMAGE_METHODS = {
    "nearest-exact": "nearest",
    "bilinear": "bilinear",
    "area": "box",
    "bicubic": "bicubic",
    "lanczos": "lanczos",
}
LATENT_METHODS = {"nearest-exact": "nearest", "bilinear": "bilinear", "area": "area", "bicubic": "bicubic"}
FITS = {"disabled": None, "center": "cover"}


def knows(scheduler: str, spacing: str) -> bool:
    """Whether the class that we call `scheduler` can space its noise levels so."""
    return spacing in _KNOWN.get(scheduler, _EVEN | _CURVED)
