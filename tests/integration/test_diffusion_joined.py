"""Nodes that work with what another model made: a VAE alone, another model's prompts, masks, sizes, resized latents."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support import random_models

torch = pytest.importorskip("torch")

from spindle_common.problems import BadInput  # noqa: E402
from spindle_worker.models import CacheOptions, ModelCache, ModelLibrary  # noqa: E402
from spindle_worker.nodes.conditioning import combine, guidance, zero  # noqa: E402
from spindle_worker.nodes.latent import decode, encode, sample, text_encode  # noqa: E402
from spindle_worker.nodes.mask import latent_mask, mask  # noqa: E402
from spindle_worker.nodes.upscale import upscale  # noqa: E402
from spindle_worker.testing import run_node, stored  # noqa: E402

SMALL = {"steps": 2, "width": 32, "height": 32, "seed": 5}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ModelCache:
    root = tmp_path_factory.mktemp("models")
    sources = {kind: str(random_models.save(kind, root / kind)) for kind in ("sd", "sdxl", "flux")}
    sources["vae"] = str(root / "sd" / "vae")
    return ModelCache(ModelLibrary(sources, "sd"), CacheOptions(2**30, device="cpu", threads=1))


def words(cache: ModelCache, text: str = "a", **more: Any) -> Any:
    return run_node(text_encode, {"prompt": text, **more}, models=cache)["conditioning"]


def picture(files: dict[str, bytes], mode: str = "RGB", size: tuple[int, int] = (32, 32)) -> dict[str, Any]:
    image = Image.linear_gradient("L").resize(size)
    if mode == "RGBA":
        image = Image.merge("RGBA", [image] * 3 + [Image.new("L", size, 255)])
        image.paste((9, 9, 9, 0), (0, 0, size[0] // 2, size[1]))
    out = io.BytesIO()
    image.save(out, "PNG")
    return stored(files, out.getvalue(), "image/png")


def opened(files: dict[str, bytes], artifact: Any) -> Image.Image:
    return Image.open(io.BytesIO(files[artifact.digest]))


def test_a_vae_alone_decodes_and_encodes_as_in_its_model(cache: ModelCache) -> None:
    files: dict[str, bytes] = {}
    assert "vae" in {info.name for info in cache.infos()}
    made = run_node(sample, SMALL | {"conditioning": words(cache)}, models=cache)["latents"]
    own, lone = (
        run_node(decode, {"latents": made} | more, models=cache, files=files)["image"] for more in ({}, {"vae": "vae"})
    )
    assert own.digest == lone.digest
    image = picture(files)
    first, second = (
        run_node(encode, {"image": image} | more, models=cache, files=files)["latents"]
        for more in ({"model": "sd"}, {"vae": "vae"})
    )
    assert torch.equal(first.tensor, second.tensor)
    again = SMALL | {"conditioning": words(cache), "latents": second, "strength": 0.5}
    assert run_node(sample, again, models=cache)["latents"].tensor.shape == first.tensor.shape


def test_a_vae_alone_makes_no_pictures(cache: ModelCache) -> None:
    with pytest.raises(BadInput, match="VAE alone: it encodes no prompts"):
        words(cache, model="vae")
    with pytest.raises(BadInput, match="VAE alone: it makes no pictures"):
        run_node(sample, SMALL | {"conditioning": words(cache), "model": "vae"}, models=cache)


def test_a_mask_is_what_is_transparent(cache: ModelCache) -> None:
    files: dict[str, bytes] = {}
    image = picture(files, "RGBA")
    found = opened(files, run_node(mask, {"image": image}, files=files)["mask"])
    assert (found.getpixel((0, 0)), found.getpixel((31, 0))) == ((255, 255, 255), (0, 0, 0))
    other = opened(files, run_node(mask, {"image": image, "invert": True}, files=files)["mask"])
    assert other.getpixel((0, 0)) == (0, 0, 0)
    red = opened(files, run_node(mask, {"image": image, "channel": "red"}, files=files)["mask"])
    assert red.getpixel((0, 0)) == (9, 9, 9)


def test_what_is_masked_changes_and_the_rest_stays(cache: ModelCache) -> None:
    files: dict[str, bytes] = {}
    image = picture(files, "RGBA")
    white_left = run_node(mask, {"image": image}, files=files)["mask"].model_dump()
    start = run_node(encode, {"image": image, "mask": white_left}, models=cache, files=files)["latents"]
    assert start.mask[0, 0, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    grown = run_node(encode, {"image": image, "mask": white_left, "grow_mask": 16}, models=cache, files=files)[
        "latents"
    ]
    assert grown.mask[0, 0, 0].tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    made = run_node(sample, SMALL | {"conditioning": words(cache), "latents": start}, models=cache)["latents"]
    assert torch.equal(made.tensor[..., 4:], start.tensor[..., 4:])
    assert not torch.allclose(made.tensor[..., :4], start.tensor[..., :4])
    bare = run_node(encode, {"image": image}, models=cache, files=files)["latents"]
    marked = run_node(latent_mask, {"latents": bare, "mask": white_left}, models=cache, files=files)["latents"]
    assert torch.equal(marked.tensor, bare.tensor)
    assert torch.equal(marked.mask, start.mask)


@pytest.mark.parametrize(
    ("how", "size"),
    [
        ({"scale": 2}, (64, 64)),
        ({"width": 48}, (48, 48)),
        ({"width": 64, "height": 32}, (64, 32)),
        ({"width": 64, "height": 32, "fit": "cover", "method": "bicubic"}, (64, 32)),
        ({"scale": 0.5, "method": "area"}, (16, 16)),
    ],
)
def test_latents_are_resized_and_sampled_further(cache: ModelCache, how: dict[str, Any], size: tuple[int, int]) -> None:
    made = run_node(sample, SMALL | {"conditioning": words(cache)}, models=cache)["latents"]
    resized = run_node(upscale, {"latents": made, **how}, models=cache)["latents"]
    assert (resized.width, resized.height) == size
    assert tuple(resized.tensor.shape[-2:]) == (size[1] // 4, size[0] // 4)
    further = {"conditioning": words(cache), "latents": resized, "steps": 4, "first_step": 2}
    assert run_node(sample, further, models=cache)["latents"].width == size[0]


def test_covering_cuts_the_middle_out(cache: ModelCache) -> None:
    made = run_node(sample, SMALL | {"conditioning": words(cache)}, models=cache)["latents"]
    how = {"latents": made, "width": 32, "height": 16, "fit": "cover"}
    cut = run_node(upscale, how, models=cache)["latents"]
    assert torch.equal(cut.tensor, made.tensor[..., 2:6, :])


def test_latents_of_patches_are_resized(cache: ModelCache) -> None:
    made = run_node(sample, SMALL | {"conditioning": words(cache, model="flux")}, models=cache)["latents"]
    assert made.tensor.ndim == 3
    resized = run_node(upscale, {"latents": made, "scale": 2}, models=cache)["latents"]
    assert resized.tensor.ndim == 4
    further = {"conditioning": words(cache, model="flux"), "latents": resized, "steps": 4, "first_step": 2, "seed": 1}
    assert run_node(sample, further, models=cache)["latents"].width == 64


@pytest.mark.parametrize(
    "how", [{}, {"scale": 2, "width": 64}, {"scale": 8}, {"width": 16, "height": 2048, "scale": 1}]
)
def test_refuses_sizes(cache: ModelCache, how: dict[str, Any]) -> None:
    start = SMALL | {"width": 512, "conditioning": words(cache), "steps": 1}
    made = run_node(sample, start, models=cache)["latents"]
    with pytest.raises(BadInput):
        run_node(upscale, {"latents": made, **how}, models=cache)


def test_prompts_are_combined_emptied_and_told_a_guidance(cache: ModelCache) -> None:
    both = run_node(combine, {"conditioning": words(cache, "a"), "other": words(cache, "b")})["conditioning"]
    assert len(both.parts) == 2
    nothing = run_node(zero, {"conditioning": both})["conditioning"]
    assert nothing.zeroed
    assert all(float(part.positive.abs().max()) == 0 for part in nothing.parts)
    made = run_node(sample, SMALL | {"conditioning": both, "negative": nothing}, models=cache)["latents"]
    assert bool(torch.isfinite(made.tensor).all())
    with pytest.raises(BadInput, match="encoded by sd, the other by sdxl"):
        run_node(combine, {"conditioning": words(cache), "other": words(cache, model="sdxl")})


def test_a_distilled_model_is_told_its_guidance(cache: ModelCache) -> None:
    plain = words(cache, model="flux")
    told = {
        scale: run_node(guidance, {"conditioning": plain, "guidance": scale})["conditioning"] for scale in (1.5, 6.0)
    }
    given = SMALL | {"guidance": 1.0, "negative": words(cache, "", model="flux")}
    one, other = (run_node(sample, given | {"conditioning": told[at]}, models=cache)["latents"] for at in told)
    with cache.use("flux") as model:
        distilled = bool(model.pipe.transformer.config.guidance_embeds)
    assert torch.equal(one.tensor, other.tensor) is not distilled


def test_what_a_pipeline_of_its_own_cannot_do_is_refused(cache: ModelCache) -> None:
    given = SMALL | {"conditioning": words(cache, model="flux")}
    for more in ({"last_step": 1}, {"noise_index": 1}, {"add_noise": False}, {"spacing": "leading"}):
        with pytest.raises(BadInput, match="own pipeline makes its pictures"):
            run_node(sample, given | more, models=cache)
    with pytest.raises(BadInput, match="no layer can be chosen"):
        words(cache, model="flux", layer=-2)


def test_a_prompt_of_another_model_must_fit(cache: ModelCache) -> None:
    with pytest.raises(BadInput, match="made by the model sd, and sdxl cannot"):
        run_node(sample, SMALL | {"conditioning": words(cache), "model": "sdxl"}, models=cache)


def test_another_models_prompt_that_fits_is_taken(cache: ModelCache, tmp_path: Path) -> None:
    sources = {"sd": str(cache.library.entry("sd").folder), "twin": str(random_models.save("lcm", tmp_path))}
    models = ModelCache(ModelLibrary(sources, "sd"), CacheOptions(2**30, device="cpu", threads=1))
    made = run_node(sample, SMALL | {"conditioning": words(models), "model": "twin"}, models=models)["latents"]
    assert bool(torch.isfinite(made.tensor).all())


def test_a_model_that_a_reference_names_by_a_string_arrives_as_a_recipe() -> None:
    from spindle_worker.calling import parse_inputs

    given: Any = parse_inputs(text_encode.spec, {"prompt": "a", "model": "sd"})  # type: ignore[attr-defined]
    assert given.model == {"model": "sd", "adapters": []}
