"""Our denoise loop against diffusers' own pipelines, on random weights: the same latents within 1e-4."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.diffusion import NEGATIVE, PROMPT, STEPS, Noted, Stopped, random_cache, request_for

torch = pytest.importorskip("torch")

import diffusers as typed_diffusers  # noqa: E402

from spindle_common.problems import BadInput  # noqa: E402
from spindle_worker.diffusion import SCHEDULER_NAMES, LatentBatch, sampling  # noqa: E402
from spindle_worker.diffusion.codec import decode_latents, encode_picture  # noqa: E402
from spindle_worker.diffusion.loop import DenoiseState, begin, tick  # noqa: E402
from spindle_worker.diffusion.preview import preview_picture  # noqa: E402
from spindle_worker.models import LoadedModel, ModelCache  # noqa: E402

diffusers: Any = typed_diffusers
TOLERANCE = 1e-4
COMMON = ("ddim", "dpmpp_2m", "euler", "euler_a", "heun", "lcm", "pndm", "unipc")
UNETS = ("sd", "sd_tiny", "sdxl", "lcm")

# Written out once more, so that a slip in the worker's own table shows.
REFERENCE: dict[str, Any] = {
    "ddim": (diffusers.DDIMScheduler, {"clip_sample": False}),
    "ddpm": (diffusers.DDPMScheduler, {"clip_sample": False}),
    "deis": (diffusers.DEISMultistepScheduler, {}),
    "dpmpp_2m": (diffusers.DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_karras": (diffusers.DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
    "dpmpp_2m_sde": (diffusers.DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_2m_sde_heun": (
        diffusers.DPMSolverMultistepScheduler,
        {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun"},
    ),
    "dpmpp_2m_sde_karras": (
        diffusers.DPMSolverMultistepScheduler,
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
    ),
    "dpmpp_2s": (diffusers.DPMSolverSinglestepScheduler, {}),
    "dpm2": (diffusers.KDPM2DiscreteScheduler, {}),
    "dpm2_a": (diffusers.KDPM2AncestralDiscreteScheduler, {}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "euler_a": (diffusers.EulerAncestralDiscreteScheduler, {}),
    "heun": (diffusers.HeunDiscreteScheduler, {"clip_sample": False}),
    "lcm": (diffusers.LCMScheduler, {"clip_sample": False}),
    "pndm": (diffusers.PNDMScheduler, {"skip_prk_steps": True}),
    "tcd": (diffusers.TCDScheduler, {"clip_sample": False}),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
    "unipc_bh1": (diffusers.UniPCMultistepScheduler, {"solver_type": "bh1", "final_sigmas_type": "sigma_min"}),
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ModelCache:
    return random_cache(tmp_path_factory.mktemp("models"), *UNETS)


@pytest.fixture
def sd(cache: ModelCache) -> Iterator[LoadedModel]:
    with cache.use("sd") as model:
        yield model


def pipeline_latents(model: LoadedModel, scheduler: str | None = None, **options: Any) -> Any:
    """Let diffusers make the latents, with its own pipeline class and scheduler."""
    kind = "Img2Img" if "image" in options else ""
    name = "StableDiffusionXL" if model.layout == "sdxl" else "StableDiffusion"
    own = model.pipe.scheduler
    cls, extra = REFERENCE[scheduler] if scheduler else (type(own), {})
    parts = {key: part for key, part in model.pipe.components.items() if key not in {"image_encoder"}}
    parts["scheduler"] = cls.from_config(own.config, **extra)
    if model.layout == "sd":
        parts["requires_safety_checker"] = False
    pipe = getattr(diffusers, f"{name}{kind}Pipeline")(**parts)
    pipe.set_progress_bar_config(disable=True)
    usual: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "width": 32, "height": 32}
    if kind:
        usual = {key: value for key, value in usual.items() if key not in {"width", "height"}}
    generator = torch.Generator("cpu").manual_seed(7)
    given = usual | {"prompt": PROMPT, "negative_prompt": NEGATIVE} | options
    return pipe(**given, generator=generator, output_type="latent").images


def distance(ours: LatentBatch, theirs: Any) -> float:
    return float((ours.tensor - theirs).abs().max())


def test_reference_names_every_scheduler() -> None:
    assert set(REFERENCE) == set(SCHEDULER_NAMES)


@pytest.mark.parametrize(
    ("kind", "scheduler"), [*(("sd", name) for name in SCHEDULER_NAMES), *(("sdxl", name) for name in COMMON)]
)
def test_latents_equal_the_pipelines(cache: ModelCache, kind: str, scheduler: str) -> None:
    with cache.use(kind) as model:
        ours = sampling.sample(model, request_for(model, scheduler=scheduler), Noted())
        assert distance(ours, pipeline_latents(model, scheduler)) < TOLERANCE


@pytest.mark.parametrize("kind", UNETS)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_own_scheduler_with_and_without_guidance(cache: ModelCache, kind: str, guidance: float) -> None:
    with cache.use(kind) as model:
        request = request_for(model, guidance=guidance, width=48)
        ours = sampling.sample(model, request, Noted())
        theirs = pipeline_latents(model, guidance_scale=guidance, width=48)
        assert distance(ours, theirs) < TOLERANCE


@pytest.mark.parametrize("scheduler", ["ddim", "dpmpp_2m", "euler", "euler_a", "unipc", "lcm"])
def test_v_prediction_with_zero_snr_and_trailing_steps(cache: ModelCache, scheduler: str) -> None:
    with cache.use("sd_tiny") as model:
        ours = sampling.sample(model, request_for(model, scheduler=scheduler), Noted())
        assert distance(ours, pipeline_latents(model, scheduler)) < TOLERANCE


@pytest.mark.parametrize("scheduler", COMMON)
@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_latents_from_a_picture_equal_the_pipelines(cache: ModelCache, kind: str, scheduler: str) -> None:
    with cache.use(kind) as model:
        picture = photo()
        request = request_for(model, scheduler=scheduler, strength=0.6)
        made = sampling.edit(model, request, picture, Noted())
        theirs = pipeline_latents(model, scheduler, image=picture, strength=0.6)
        assert np.abs(np.asarray(made, dtype=int) - np.asarray(decoded(model, theirs), dtype=int)).max() <= 1


def test_picture_equals_the_pipelines(sd: LoadedModel) -> None:
    ours = sampling.generate(sd, request_for(sd), Noted())
    theirs = decoded(sd, pipeline_latents(sd))
    assert ours.tobytes() == theirs.tobytes()
    assert ours.size == (32, 32)


def test_empty_negative_prompt_of_sdxl_is_zeroed_as_its_pipeline_does(cache: ModelCache) -> None:
    from spindle_worker.diffusion import Request
    from spindle_worker.diffusion.codec import encode_text

    with cache.use("sdxl") as model:
        words = encode_text(model, PROMPT)
        ours = sampling.sample(model, Request(words, STEPS, 4.0, 7, 32, 32), Noted())
        assert distance(ours, pipeline_latents(model, negative_prompt=None)) < TOLERANCE


def test_requests_share_a_tick_and_do_not_notice(sd: LoadedModel) -> None:
    """Requests of different seeds, steps, guidance and schedulers join and leave one batch."""
    requests = [
        request_for(sd, seed=1, steps=3),
        request_for(sd, seed=2, steps=5, scheduler="euler_a"),
        request_for(sd, seed=3, steps=4, guidance=1.0, scheduler="dpmpp_2m"),
    ]
    alone = [sampling.sample(sd, request, Noted()).tensor for request in requests]
    waiting, running, done = [begin(sd, request) for request in requests], list[DenoiseState](), list[DenoiseState]()
    while waiting or running:
        running += [waiting.pop(0)] if waiting else []
        tick(sd, running)
        done += [state for state in running if state.finished]
        running = [state for state in running if not state.finished]
    together = {state.generator.initial_seed(): state.latents for state in done}
    for seed, latents in enumerate(alone, start=1):
        assert float((together[seed] - latents).abs().max()) < TOLERANCE


def test_states_of_different_shapes_do_not_share_a_tick(sd: LoadedModel) -> None:
    states = [begin(sd, request_for(sd)), begin(sd, request_for(sd, width=48))]
    with pytest.raises(ValueError, match="different shapes"):
        tick(sd, states)


def test_same_seed_same_bytes_other_seed_other_picture(sd: LoadedModel) -> None:
    first, again, other = (sampling.generate(sd, request_for(sd, seed=s), Noted()).tobytes() for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("scheduler", [None, *SCHEDULER_NAMES])
def test_progress_counts_the_users_steps(sd: LoadedModel, scheduler: str | None) -> None:
    noted = Noted()
    sampling.sample(sd, request_for(sd, scheduler=scheduler, steps=4), noted)
    assert noted.ticks[-1] == (4, 4)
    assert [done for done, _ in noted.ticks] == sorted(done for done, _ in noted.ticks)
    assert {done for done, _ in noted.ticks} >= {1, 2, 3, 4}
    assert {total for _, total in noted.ticks} == {4}


def test_steps_of_an_edit_follow_its_strength(sd: LoadedModel) -> None:
    for strength, steps in ((1.0, 4), (0.5, 2), (0.01, 1)):
        noted = Noted()
        sampling.edit(sd, request_for(sd, strength=strength), photo(), noted)
        assert noted.ticks[-1] == (steps, steps)


def test_stops_between_steps(sd: LoadedModel) -> None:
    noted = Noted(stop_after=2)
    with pytest.raises(Stopped):
        sampling.generate(sd, request_for(sd, steps=50), noted)
    assert len(noted.ticks) <= 4


@pytest.mark.parametrize("kind", UNETS)
def test_previews_are_shown_while_it_runs_and_never_after(cache: ModelCache, kind: str) -> None:
    with cache.use(kind) as model:
        noted = Noted(looks=True)
        sampling.generate(model, request_for(model, steps=30), noted)
        shown = len(noted.previews)
        assert 1 <= shown < 30
        assert {preview.size for preview in noted.previews} == {(32, 32)}
        time.sleep(0.3)
        assert len(noted.previews) == shown


def test_previews_show_what_the_decoder_would(cache: ModelCache) -> None:
    with cache.use("sd_tiny") as model:
        latents = encode_picture(model, photo())
        assert preview_picture(model, latents).tobytes() == decode_latents(model, latents).tobytes()


def test_linear_previews_know_a_picture_by_its_latents(cache: ModelCache) -> None:
    with cache.use("sd") as model:
        preview = preview_picture(model, encode_picture(model, photo()))
    wrong = Image.fromarray(255 - np.asarray(photo()))
    assert mean_difference(preview, photo()) < mean_difference(preview, wrong)


def test_a_vae_that_cannot_be_pictured_spoils_no_picture(tmp_path: Path) -> None:
    with random_cache(tmp_path, "sd").use("sd") as model:
        model.memo["colour_map"] = torch.zeros(1, 1)
        noted = Noted(looks=True)
        assert sampling.generate(model, request_for(model, steps=8), noted).size == (32, 32)
        assert noted.previews == []


def test_clean_latents_are_those_of_the_scheduler(cache: ModelCache) -> None:
    """DDIM says what it takes the finished latents for; so do we, without asking it."""
    for kind in ("sd", "sd_tiny"):
        with cache.use(kind) as model:
            state = begin(model, request_for(model, scheduler="ddim"))
            said: list[Any] = []
            step = state.scheduler.step

            def noting(*args: Any, _step: Any = step, _said: list[Any] = said, **options: Any) -> Any:
                _said.append(_step(*args, **(options | {"return_dict": True})).pred_original_sample)
                return _step(*args, **options)

            state.scheduler.step = noting
            while not state.finished:
                tick(model, [state], clean=True)
                if state.position > 1:  # at the first of zero SNR everything is noise
                    assert float((state.clean - said[-1]).abs().max()) < 1e-3


def test_a_picture_encodes_and_decodes_deterministically(sd: LoadedModel) -> None:
    first, again = (encode_picture(sd, photo()) for _ in range(2))
    assert torch.equal(first.tensor, again.tensor)
    assert decode_latents(sd, first).size == (32, 32)


def test_refuses_what_does_not_fit(cache: ModelCache, sd: LoadedModel) -> None:
    with pytest.raises(BadInput, match="cannot take 200 steps"):
        sampling.sample(sd, request_for(sd, scheduler="lcm", steps=200), Noted())
    with pytest.raises(BadInput, match="cannot take 1000 steps"):
        sampling.sample(sd, request_for(sd, scheduler="pndm", steps=1000), Noted())
    with pytest.raises(BadInput, match="multiple of 4"):
        sampling.sample(sd, request_for(sd, width=34), Noted())
    start = LatentBatch(sd.recipe, torch.zeros(1, 4, 2, 2), 32, 32)
    with pytest.raises(BadInput, match="do not fit"):
        sampling.sample(sd, request_for(sd, start=start), Noted())
    with cache.use("sdxl") as other, pytest.raises((BadInput, RuntimeError)):
        sampling.sample(sd, request_for(other), Noted())


def test_latents_that_are_no_numbers_are_a_problem(sd: LoadedModel) -> None:
    broken = LatentBatch(sd.recipe, torch.full((1, 4, 8, 8), float("nan")), 32, 32)
    with pytest.raises(Exception, match="no numbers"):
        decode_latents(sd, broken)


def photo() -> Image.Image:
    across = np.linspace(0, 255, 32, dtype=np.uint8)
    return Image.fromarray(np.stack([np.tile(across, (32, 1)), np.tile(across[:, None], (1, 32))] * 2, -1)[..., :3])


def decoded(model: LoadedModel, latents: Any) -> Image.Image:
    return decode_latents(model, LatentBatch(model.recipe, latents, 32, 32))


def mean_difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, dtype=float) - np.asarray(other.resize(one.size), dtype=float)).mean())
