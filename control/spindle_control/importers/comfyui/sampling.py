"""Samplers: each becomes an `image.sample` for each picture of the batch.

ComfyUI's `denoise` d runs `steps` of int(steps / d) steps, the last ones; KSamplerAdvanced says directly which. Both
are `first_step` and `last_step` of `image.sample` here. The n-th picture of a batch gets the n-th noise of the seed.
"""

from dataclasses import dataclass, replace
from typing import Any

from spindle_control.importers.builder import ref
from spindle_control.importers.comfyui import tables
from spindle_control.importers.comfyui.call import Call
from spindle_control.importers.comfyui.things import Guider, Latents, Noise, Piece, Sampler, Sigmas, Words

MAX_SEED = 2**53 - 1
FLUX_GUIDANCE = 3.5
"""What ComfyUI tells a distilled model where no FluxGuidance does."""
_FULL = 0.9999

Json = dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """How to sample: `first` and `last` are None where the whole of `steps` is made."""

    guider: Guider
    scheduler: str
    spacing: str
    steps: int
    seed: Json | int
    first: int | None = None
    last: int | None = None
    add_noise: bool = True
    leftover: bool = False


def check_names(call: Call, sampler: str | None, scheduler: str | None) -> None:
    """Refuse a sampler or scheduler that has no equivalent. Raises Refused."""
    refused = None
    if sampler is not None and sampler not in tables.SAMPLERS:
        why = tables.REFUSED_SAMPLERS.get(sampler, "neither diffusers' table nor its documentation names one")
        hint = "there are: " + ", ".join(tables.SAMPLERS)
        refused = call.refusal("sampler_name", "no-equivalent", f"the sampler {sampler[:60]!r}: {why}", hint)
    if scheduler is not None and scheduler not in tables.SPACINGS:
        why = tables.REFUSED_SPACINGS.get(scheduler, "diffusers' table names none")
        hint = "there are: " + ", ".join(tables.SPACINGS)
        refused = call.refusal("scheduler", "no-equivalent", f"the scheduler {scheduler[:60]!r}: {why}", hint)
    if refused is not None:
        raise refused


def _named(call: Call, sampler: str, scheduler: str) -> tuple[str, str]:
    name, spacing = tables.SAMPLERS[sampler], tables.SPACINGS[scheduler]
    if not tables.knows(name, spacing):
        detail = f"diffusers' scheduler for {sampler!r} cannot space its noise levels as {scheduler!r} does"
        raise call.refusal("scheduler", "no-equivalent", detail, "choose another scheduler, or another sampler")
    if sampler in tables.REMARKS:
        call.note("sampler_name", "differs", f"{sampler!r}: {tables.REMARKS[sampler]}")
    return name, spacing


def k_sampler(call: Call) -> tuple[Any, ...]:
    """KSampler."""
    name, spacing = _named(call, call.text("sampler_name"), call.text("scheduler"))
    steps, first = _part(call.whole("steps"), call.number("denoise"))
    if steps == 0:
        return (_unchanged(call, "denoise"),)
    guider = Guider(call.model(), call.words("positive"), call.words("negative"), call.number("cfg"))
    setup = Setup(guider, name, spacing, steps, _seed(call, "seed"), first)
    return (_sampled(call, setup),)


def k_sampler_advanced(call: Call) -> tuple[Any, ...]:
    """KSamplerAdvanced."""
    name, spacing = _named(call, call.text("sampler_name"), call.text("scheduler"))
    steps, first = call.whole("steps"), call.whole("start_at_step")
    last = min(call.whole("end_at_step"), steps)
    if first >= last:
        return (_unchanged(call, "start_at_step"),)
    add_noise = call.text("add_noise") == "enable"
    setup = Setup(
        Guider(call.model(), call.words("positive"), call.words("negative"), call.number("cfg")),
        name,
        spacing,
        steps,
        _seed(call, "noise_seed") if add_noise else _as_seed(call, "noise_seed"),
        first or None,
        last if last < steps else None,
        add_noise,
        call.text("return_with_leftover_noise") == "enable" and last < steps,
    )
    return (_sampled(call, setup),)


def random_noise(call: Call) -> tuple[Any, ...]:
    """A seed."""
    return (Noise(_seed(call, "noise_seed")),)


def sampler_select(call: Call) -> tuple[Any, ...]:
    """The name of a sampler."""
    return (Sampler(call.text("sampler_name")),)


def basic_scheduler(call: Call) -> tuple[Any, ...]:
    """Noise levels."""
    steps, first = _part(call.whole("steps"), call.number("denoise"))
    return (Sigmas(call.text("scheduler"), steps, first),)


def basic_guider(call: Call) -> tuple[Any, ...]:
    """A model that follows one prompt."""
    return (Guider(call.model(), call.words("conditioning")),)


def cfg_guider(call: Call) -> tuple[Any, ...]:
    """A model that follows one prompt, away from another."""
    return (Guider(call.model(), call.words("positive"), call.words("negative"), call.number("cfg")),)


def sampler_custom(call: Call) -> tuple[Any, ...]:
    """SamplerCustomAdvanced; its second output, the clean picture as seen last, is the first one without noise left."""
    sigmas = call.thing("sigmas", Sigmas)
    name, spacing = _named(call, call.thing("sampler", Sampler).name, sigmas.scheduler)
    if sigmas.steps == 0:
        made = _unchanged(call, "sigmas")
    else:
        noise = call.thing("noise", Noise)
        guider = call.thing("guider", Guider)
        made = _sampled(call, Setup(guider, name, spacing, sigmas.steps, noise.seed, sigmas.first))
    return made, made


def _part(steps: int, denoise: float) -> tuple[int, int | None]:
    """How many steps the whole has, and the first that is made; no steps at all for denoise 0."""
    if denoise <= 0:
        return 0, None
    if denoise > _FULL:
        return steps, None
    whole = int(steps / denoise)
    return whole, whole - steps


def _unchanged(call: Call, name: str) -> Latents:
    latents = call.latents("latent_image")
    call.note(name, "ignored", f"{call.node.class_type} makes no step here: it gives what it gets")
    return latents


def _seed(call: Call, name: str) -> Json:
    """A seed, which becomes an input of the workflow; one below 0 is drawn anew for each run."""
    spec: Json = {"type": "integer", "minimum": 0, "maximum": MAX_SEED, "description": "Decides the noise."}
    seed = _as_seed(call, name)
    wanted = {"optional": True} if call.whole(name) < 0 else {"default": seed}
    return call.work.builder.input("seed", spec | wanted, call.at(name))


def _as_seed(call: Call, name: str) -> int:
    seed = call.whole(name)
    if seed > MAX_SEED:
        detail = f"seeds here are below 2^53, so {seed} becomes {seed % (MAX_SEED + 1)}: other noise"
        call.note(name, "seed-reduced", detail)
    return seed % (MAX_SEED + 1) if seed >= 0 else 0


def _sampled(call: Call, setup: Setup) -> Latents:
    latents = call.latents("latent_image")
    guider = replace(setup.guider, positive=_told(call, setup.guider, latents))
    setup = replace(setup, guider=guider)
    return Latents(tuple(_one(call, setup, piece) for piece in latents.pieces))


def _one(call: Call, setup: Setup, piece: Piece) -> Piece:
    guider = setup.guider
    given: Json = {
        "model": call.work.recipes.use("unet", guider.model.base, guider.model.adapters),
        "conditioning": guider.positive.ref,
        "negative": guider.negative.ref if guider.negative else None,
        "latents": piece.ref,
        "width": None if piece.ref else piece.width,
        "height": None if piece.ref else piece.height,
        "steps": setup.steps,
        "guidance": guider.cfg,
        "scheduler": setup.scheduler,
        "spacing": setup.spacing,
        "seed": setup.seed,
        "first_step": setup.first,
        "last_step": setup.last,
        "add_noise": None if setup.add_noise else False,
        "leftover_noise": True if setup.leftover else None,
        "noise_index": piece.index or None,
    }
    names = ("steps", "sampler_name", "scheduler", "cfg")
    origins = dict(zip(("steps", "scheduler", "spacing", "guidance"), names, strict=True)) | {
        "seed": "noise_seed" if "noise_seed" in call.arguments else "seed",
        "width": "latent_image",
        "height": "latent_image",
    }
    id_ = call.emit("image.sample@1", given, origins)
    return replace(piece, ref=ref(id_, "latents"), base=guider.model.base)


def _told(call: Call, guider: Guider, latents: Latents) -> Words:
    """Tell a model that may be a distilled one its guidance, as ComfyUI does where the workflow does not."""
    words = guider.positive
    distilled = "flux" in {guider.model.family, words.family} or latents.family == "sd3"
    if words.guided or guider.cfg > 1 or not distilled:
        return words
    name = "guider" if "guider" in call.arguments else "positive"
    call.note(name, "assumed", f"no FluxGuidance: a distilled model is told {FLUX_GUIDANCE}, as ComfyUI does")
    id_ = call.emit("conditioning.guidance@1", {"conditioning": words.ref, "guidance": FLUX_GUIDANCE}, None, "guidance")
    return replace(words, ref=ref(id_, "conditioning"), guided=True)
