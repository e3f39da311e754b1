"""Parts of the denoise loop, against diffusers and itself: spacings, part of the steps, masks, several prompts."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.diffusion import NEGATIVE, PROMPT, Noted, random_cache, request_for

torch = pytest.importorskip("torch")

import diffusers as typed_diffusers  # noqa: E402

from spindle_common.problems import BadInput  # noqa: E402
from spindle_worker.diffusion import LatentBatch, sampling  # noqa: E402
from spindle_worker.diffusion.codec import encode_picture, encode_text  # noqa: E402
from spindle_worker.diffusion.loop import begin, tick  # noqa: E402
from spindle_worker.models import LoadedModel, ModelCache  # noqa: E402

diffusers: Any = typed_diffusers
TOLERANCE = 1e-4
STEPS = 6

# (scheduler, spacing) -> the class and options that diffusers' documentation gives for it
SPACED: dict[tuple[str, str], tuple[Any, dict[str, Any]]] = {
    ("euler", "linspace"): (diffusers.EulerDiscreteScheduler, {"timestep_spacing": "linspace", "steps_offset": 0}),
    ("euler", "leading"): (diffusers.EulerDiscreteScheduler, {"timestep_spacing": "leading", "steps_offset": 1}),
    ("euler", "trailing"): (diffusers.EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
    ("euler", "karras"): (diffusers.EulerDiscreteScheduler, {"use_karras_sigmas": True}),
    ("euler", "exponential"): (diffusers.EulerDiscreteScheduler, {"use_exponential_sigmas": True}),
    ("euler_a", "trailing"): (diffusers.EulerAncestralDiscreteScheduler, {"timestep_spacing": "trailing"}),
    ("heun", "karras"): (diffusers.HeunDiscreteScheduler, {"use_karras_sigmas": True, "clip_sample": False}),
    ("dpm2", "karras"): (diffusers.KDPM2DiscreteScheduler, {"use_karras_sigmas": True}),
    ("dpmpp_2m", "exponential"): (diffusers.DPMSolverMultistepScheduler, {"use_exponential_sigmas": True}),
    ("dpmpp_2m_sde", "karras"): (
        diffusers.DPMSolverMultistepScheduler,
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
    ),
    ("unipc", "trailing"): (diffusers.UniPCMultistepScheduler, {"timestep_spacing": "trailing"}),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ModelCache:
    return random_cache(tmp_path_factory.mktemp("models"), "sd", "sdxl")


@pytest.fixture
def sd(cache: ModelCache) -> Iterator[LoadedModel]:
    with cache.use("sd") as model:
        yield model


def pipeline(model: LoadedModel, scheduler: Any, name: str = "StableDiffusionPipeline") -> Any:
    parts = {key: part for key, part in model.pipe.components.items() if key != "image_encoder"}
    pipe = getattr(diffusers, name)(**(parts | {"scheduler": scheduler}), requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def theirs(pipe: Any, **options: Any) -> Any:
    usual: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "width": 32, "height": 32}
    given = usual | {"prompt": PROMPT, "negative_prompt": NEGATIVE} | options
    return pipe(**given, generator=torch.Generator("cpu").manual_seed(7), output_type="latent").images


def sampled(model: LoadedModel, **options: Any) -> LatentBatch:
    words = options.pop("conditioning", None)
    request = request_for(model, **({"steps": STEPS} | options))
    return sampling.sample(model, replace(request, conditioning=words or request.conditioning), Noted())


def distance(first: Any, second: Any) -> float:
    return float((first - second).abs().max())


@pytest.mark.parametrize(("scheduler", "spacing"), list(SPACED))
def test_spacings_are_those_of_diffusers(sd: LoadedModel, scheduler: str, spacing: str) -> None:
    cls, options = SPACED[scheduler, spacing]
    own = sd.pipe.scheduler
    plain = {"timestep_spacing": "linspace", "steps_offset": 0}
    expected = theirs(pipeline(sd, cls.from_config(own.config, **(plain | options))))
    assert distance(sampled(sd, scheduler=scheduler, spacing=spacing).tensor, expected) < TOLERANCE
    assert distance(sampled(sd, scheduler=scheduler).tensor, expected) > TOLERANCE or spacing in {"leading", "linspace"}


@pytest.mark.parametrize(
    ("spacing", "timesteps"), [("trailing", [999, 749, 499, 249]), ("linspace", [999, 666, 333, 0])]
)
def test_lcm_takes_its_timesteps_as_they_are_spaced(sd: LoadedModel, spacing: Any, timesteps: list[int]) -> None:
    state = begin(sd, request_for(sd, scheduler="lcm", spacing=spacing, steps=4))
    assert state.timesteps.tolist() == timesteps


@pytest.mark.parametrize(
    ("scheduler", "spacing"),
    [("euler_a", "karras"), ("ddim", "exponential"), ("lcm", "karras"), ("dpmpp_2s", "trailing")],
)
def test_refuses_spacings_that_a_scheduler_lacks(sd: LoadedModel, scheduler: str, spacing: str) -> None:
    with pytest.raises(BadInput, match="cannot space its noise levels"):
        sampled(sd, scheduler=scheduler, spacing=spacing)


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
@pytest.mark.parametrize("scheduler", ["euler", "heun", "ddim", "dpm2"])
def test_two_parts_make_what_the_whole_makes(cache: ModelCache, kind: str, scheduler: str) -> None:
    with cache.use(kind) as model:
        whole = sampled(model, scheduler=scheduler)
        first = sampled(model, scheduler=scheduler, last_step=4, leftover_noise=True)
        second = sampled(model, scheduler=scheduler, start=first, first_step=4, add_noise=False, seed=99)
        assert distance(first.tensor, whole.tensor) > TOLERANCE
        assert distance(second.tensor, whole.tensor) < TOLERANCE


def test_noise_that_is_left_passes_from_one_kind_of_scheduler_to_another(sd: LoadedModel) -> None:
    options: dict[str, Any] = {"spacing": "trailing", "steps": 5}
    whole = sampled(sd, scheduler="euler", **options)
    first = sampled(sd, scheduler="euler", last_step=4, leftover_noise=True, **options)
    # The last step, to no noise at all, is the same first-order step in both.
    second = sampled(sd, scheduler="dpmpp_2m", start=first, first_step=4, add_noise=False, **options)
    assert distance(second.tensor, whole.tensor) < 1e-3
    back = sampled(sd, scheduler="dpmpp_2m", last_step=1, leftover_noise=True, **options)
    other = sampled(sd, scheduler="euler", last_step=1, leftover_noise=True, **options)
    assert distance(back.tensor, other.tensor) < 0.05 * float(other.tensor.std())


@pytest.mark.parametrize("scheduler", ["euler", "dpmpp_2m", "heun", "unipc"])
def test_ending_early_gives_the_clean_picture_as_it_is_seen_then(sd: LoadedModel, scheduler: str) -> None:
    state = begin(sd, request_for(sd, scheduler=scheduler, spacing="trailing", steps=5, last_step=3))
    while not state.finished:
        tick(sd, [state], clean=True)
    assert state.clean is not None
    assert distance(state.latents, state.clean) < 1e-3
    noisy = sampled(sd, scheduler=scheduler, spacing="trailing", steps=5, last_step=3, leftover_noise=True)
    assert distance(noisy.tensor, state.clean) > 1e-2


def test_refuses_parts_that_cannot_be(sd: LoadedModel) -> None:
    with pytest.raises(BadInput, match="no step from 4 to 3"):
        sampled(sd, first_step=4, last_step=3)
    with pytest.raises(BadInput, match="DDIMScheduler cannot end"):
        sampled(sd, scheduler="ddim", last_step=3)


@pytest.mark.parametrize("scheduler", ["euler", "ddim", "dpmpp_2m"])
def test_masks_keep_what_diffusers_inpainting_keeps(sd: LoadedModel, scheduler: str) -> None:
    picture = Image.linear_gradient("L").resize((32, 32)).convert("RGB")
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:6, 2:6] = 1
    start = replace(encode_picture(sd, picture), mask=mask)
    ours = sampled(sd, scheduler=scheduler, start=start, strength=0.67).tensor
    cls = {
        "euler": diffusers.EulerDiscreteScheduler,
        "ddim": diffusers.DDIMScheduler,
        "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
    }
    options = {"clip_sample": False} if scheduler == "ddim" else {}
    pipe = pipeline(
        sd, cls[scheduler].from_config(sd.pipe.scheduler.config, **options), "StableDiffusionInpaintPipeline"
    )
    pixels = mask.repeat_interleave(4, 2).repeat_interleave(4, 3)
    expected = theirs(pipe, image=start.tensor, mask_image=pixels, strength=0.67, masked_image_latents=start.tensor)
    assert distance(ours, expected) < TOLERANCE
    kept = (1 - mask).bool().expand_as(ours)
    assert distance(ours[kept], start.tensor[kept]) == 0
    assert distance(ours[~kept], start.tensor[~kept]) > TOLERANCE


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_a_negative_of_its_own_stands_for_the_negative_prompt(cache: ModelCache, kind: str) -> None:
    with cache.use(kind) as model:
        together = sampled(model)
        words, unwanted = encode_text(model, PROMPT), encode_text(model, NEGATIVE)
        apart = sampled(model, conditioning=words, negative=unwanted)
        assert distance(together.tensor, apart.tensor) == 0


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_several_prompts_are_averaged(cache: ModelCache, kind: str) -> None:
    with cache.use(kind) as model:
        one, other, none = (encode_text(model, text) for text in ("red", "a blue circle", ""))
        alone = sampled(model, conditioning=one, negative=none, steps=1)
        twice = sampled(model, conditioning=replace(one, others=(one,)), negative=none, steps=1)
        both = sampled(model, conditioning=replace(one, others=(other,)), negative=none, steps=1)
        second = sampled(model, conditioning=other, negative=none, steps=1)
        assert distance(alone.tensor, twice.tensor) < TOLERANCE
        # One step is linear in the prediction, so the mean of predictions makes the mean of pictures.
        assert distance(both.tensor, (alone.tensor + second.tensor) / 2) < TOLERANCE
        assert distance(both.tensor, alone.tensor) > TOLERANCE


def test_prompts_of_different_lengths_share_a_pass(sd: LoadedModel) -> None:
    short = encode_text(sd, "red")
    assert short.positive is not None
    longer = replace(short, positive=short.positive.repeat(1, 3, 1))
    assert distance(sampled(sd, conditioning=short).tensor, sampled(sd, conditioning=longer).tensor) < TOLERANCE


def test_the_nth_noise_is_that_of_the_nth_of_a_batch(sd: LoadedModel) -> None:
    batch = torch.randn((3, 4, 8, 8), generator=torch.Generator("cpu").manual_seed(7))
    for index in range(3):
        state = begin(sd, request_for(sd, noise_index=index))
        assert torch.equal(state.latents, batch[index : index + 1] * state.scheduler.init_noise_sigma)


def test_parts_of_pictures_without_latents_start_from_nothing(sd: LoadedModel, tmp_path: Path) -> None:
    del tmp_path
    empty = LatentBatch(sd.recipe, torch.zeros(1, 4, 8, 8), 32, 32)
    unset, given = sampled(sd, first_step=2), sampled(sd, first_step=2, start=empty)
    assert torch.equal(unset.tensor, given.tensor)
