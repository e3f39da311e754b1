"""Models whose loop is their pipeline's (FLUX, SD 3), on random weights: pictures, progress, previews, stopping."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from support.diffusion import PROMPT, STEPS, Noted, Stopped, random_cache, request_for

torch = pytest.importorskip("torch")

from spindle_common.problems import BadInput  # noqa: E402
from spindle_worker.diffusion import sampling  # noqa: E402
from spindle_worker.diffusion.codec import decode_latents, encode_picture  # noqa: E402
from spindle_worker.models import LoadedModel, ModelCache  # noqa: E402

KINDS = ("flux", "sd3")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ModelCache:
    return random_cache(tmp_path_factory.mktemp("models"), *KINDS)


def bare(model: LoadedModel, **options: Any) -> Image.Image:
    """What diffusers makes by itself."""
    pipe = model.pipe
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    generator = torch.Generator("cpu").manual_seed(7)
    usual = {"num_inference_steps": STEPS, "guidance_scale": 4.0, "width": 32, "height": 32}
    found = pipe(prompt=PROMPT, generator=generator, **(usual | options)).images[0]
    assert isinstance(found, Image.Image)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_picture_is_the_pipelines_with_progress(cache: ModelCache, kind: str) -> None:
    with cache.use(kind) as model:
        noted = Noted()
        made = sampling.generate(model, plain(model), noted)
        assert made.tobytes() == bare(model).tobytes()
    assert noted.ticks == [(step, STEPS) for step in range(1, STEPS + 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_previews(cache: ModelCache, kind: str) -> None:
    with cache.use(kind) as model:
        noted = Noted(looks=True)
        sampling.generate(model, plain(model, steps=40), noted)
        assert {preview.size for preview in noted.previews} == {(32, 32)}


@pytest.mark.parametrize("kind", KINDS)
def test_stops_by_raising_in_the_callback(cache: ModelCache, kind: str) -> None:
    with cache.use(kind) as model:
        noted = Noted(stop_after=1)
        with pytest.raises(Stopped):
            sampling.generate(model, plain(model, steps=50), noted)
        assert len(noted.ticks) == 1
        assert sampling.generate(model, plain(model), Noted()).size == (32, 32)


@pytest.mark.parametrize("kind", KINDS)
def test_latents_apart_from_decoding(cache: ModelCache, kind: str) -> None:
    with cache.use(kind) as model:
        whole = sampling.generate(model, plain(model), Noted())
        parts = decode_latents(model, sampling.sample(model, plain(model), Noted()))
        assert np.abs(np.asarray(whole, dtype=int) - np.asarray(parts, dtype=int)).max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_edits_a_picture_and_latents(cache: ModelCache, kind: str) -> None:
    with cache.use(kind) as model:
        picture = Image.new("RGB", (32, 32), "red")
        noted = Noted()
        made = sampling.edit(model, plain(model, strength=0.5), picture, noted)
        assert made.size == (32, 32)
        assert noted.ticks[-1] == (2, 2)
        start = encode_picture(model, picture)
        again = sampling.sample(model, plain(model, strength=0.5, start=start), Noted())
        assert decode_latents(model, again).size == (32, 32)


def test_takes_the_schedulers_of_flow_matching_only(cache: ModelCache) -> None:
    with cache.use("sd3") as model:
        default = sampling.generate(model, plain(model), Noted())
        assert sampling.generate(model, plain(model, scheduler="euler"), Noted()).tobytes() == default.tobytes()
        assert sampling.generate(model, plain(model, scheduler="heun"), Noted()).tobytes() != default.tobytes()
        with pytest.raises(BadInput, match="it takes euler, heun"):
            sampling.generate(model, plain(model, scheduler="ddim"), Noted())


def test_what_the_pipeline_refuses_is_bad_input(cache: ModelCache) -> None:
    with cache.use("sd3") as model, pytest.raises(BadInput, match="StableDiffusion3Pipeline refuses"):
        sampling.generate(model, plain(model, width=36), Noted())


def plain(model: LoadedModel, **options: Any) -> Any:
    from dataclasses import replace

    request = request_for(model, **options)
    return replace(request, conditioning=replace(request.conditioning, negative_prompt=""))
