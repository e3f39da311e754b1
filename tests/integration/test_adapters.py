"""Adapters (LoRA) over random models: the same as diffusers makes with them, beside the model without them."""

import copy
from pathlib import Path
from typing import Any

import pytest

from support import random_models
from support.diffusion import Noted, request_for

torch = pytest.importorskip("torch")
peft: Any = pytest.importorskip("peft")

from spindle_common.problems import BadInput  # noqa: E402
from spindle_worker.diffusion import sampling  # noqa: E402
from spindle_worker.models import CacheOptions, ModelCache, ModelChanged, ModelLibrary, ModelRefused  # noqa: E402
from spindle_worker.nodes.model import load  # noqa: E402
from spindle_worker.testing import run_node  # noqa: E402

KINDS = ("sd", "sdxl")


def write_adapter(model: Any, folder: Path, seed: int) -> Path:
    """Train nothing: random weights of the right shapes, over attention in UNet and text encoder."""
    from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers

    generator = torch.Generator().manual_seed(seed)
    pipe, layers = model.pipe, {}
    for name, targets in (("unet", ["to_q", "to_v"]), ("text_encoder", ["q_proj", "v_proj"])):
        part = copy.deepcopy(getattr(pipe, name))
        part.add_adapter(peft.LoraConfig(r=2, lora_alpha=2, target_modules=targets), adapter_name="made")
        state = convert_state_dict_to_diffusers(peft.utils.get_peft_model_state_dict(part, adapter_name="made"))
        layers[f"{name}_lora_layers"] = {
            key: torch.randn(value.shape, generator=generator) * 0.3 for key, value in state.items()
        }
    type(pipe).save_lora_weights(folder, weight_name=f"{seed}.safetensors", **layers)
    return folder / f"{seed}.safetensors"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ModelCache:
    root = tmp_path_factory.mktemp("models")
    sources = {kind: str(random_models.save(kind, root / kind)) for kind in KINDS}
    plain = ModelCache(ModelLibrary(sources, "sd"), CacheOptions(2**30, device="cpu", threads=1))
    for kind in KINDS:
        with plain.use(kind) as model:
            for seed in (1, 2):
                sources[f"{kind}-{seed}"] = str(write_adapter(model, root / f"{kind}-adapters", seed))
    (root / "bad.safetensors").write_bytes(b"no header")
    sources["bad"] = str(root / "bad.safetensors")
    return ModelCache(ModelLibrary(sources, "sd"), CacheOptions(2**30, device="cpu", threads=1))


def recipe(cache: ModelCache, kind: str, *adapters: dict[str, Any]) -> dict[str, Any]:
    return run_node(load, {"model": kind, "adapters": list(adapters)}, models=cache)["model"]  # type: ignore[no-any-return]


def made(cache: ModelCache, chosen: dict[str, Any]) -> Any:
    with cache.use(chosen) as model:
        return sampling.sample(model, request_for(model), Noted()).tensor


def theirs(cache: ModelCache, kind: str, weights: dict[str, dict[str, float]]) -> Any:
    """What diffusers makes, its adapters not fused, over a model loaded for it alone."""
    import diffusers

    source = cache.library.entry(kind).folder
    pipe: Any = getattr(diffusers, cache.library.entry(kind).contents.pipeline).from_pretrained(source)
    for name in weights:
        file = cache.library.adapter(name).path
        pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=name.replace("-", "_"))
    pipe.set_adapters([name.replace("-", "_") for name in weights], [dict(each) for each in weights.values()])
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(7)
    options: dict[str, Any] = {"num_inference_steps": 4, "guidance_scale": 4.0, "width": 32, "height": 32}
    found = pipe("a large red circle", negative_prompt="blurred", generator=generator, output_type="latent", **options)
    return found.images


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_equal_diffusers_with_the_adapter(cache: ModelCache, kind: str) -> None:
    ours = made(cache, recipe(cache, kind, {"adapter": f"{kind}-1", "weight": 0.7, "text_weight": 0.4}))
    expected = theirs(cache, kind, {f"{kind}-1": {"unet": 0.7, "text_encoder": 0.4}})
    assert float((ours - expected).abs().max()) < 1e-3
    assert float((ours - made(cache, recipe(cache, kind))).abs().max()) > 1e-2


def test_several_adapters_add_up(cache: ModelCache) -> None:
    two = [{"adapter": "sd-1", "weight": 0.5}, {"adapter": "sd-2", "weight": -0.3}]
    weights = {each["adapter"]: {"unet": each["weight"], "text_encoder": each["weight"]} for each in two}
    ours = made(cache, recipe(cache, "sd", *two))
    assert float((ours - theirs(cache, "sd", weights)).abs().max()) < 1e-3  # type: ignore[arg-type]


def test_the_model_without_adapters_is_untouched(cache: ModelCache) -> None:
    before = made(cache, recipe(cache, "sd"))
    made(cache, recipe(cache, "sd", {"adapter": "sd-1"}))
    assert torch.equal(before, made(cache, recipe(cache, "sd")))


def test_a_weight_of_nothing_changes_nothing(cache: ModelCache) -> None:
    nothing = recipe(cache, "sd", {"adapter": "sd-1", "weight": 0, "text_weight": 0})
    assert torch.allclose(made(cache, nothing), made(cache, recipe(cache, "sd")), atol=1e-5)


def test_recipes_name_weights_and_digests(cache: ModelCache) -> None:
    found = recipe(cache, "sd", {"adapter": "sd-1", "weight": 0.5})
    digest = cache.library.adapter("sd-1").digest
    assert found["adapters"] == [{"adapter": "sd-1", "weight": 0.5, "text_weight": 0.5, "digest": digest}]
    with cache.use(found) as model:
        assert model.recipe == found
    assert cache.is_loaded(found)
    assert not cache.is_loaded(found | {"adapters": [found["adapters"][0] | {"weight": 0.25}]})


def test_refuses_adapters_that_cannot_be(cache: ModelCache) -> None:
    with pytest.raises(BadInput, match="No adapter is called 'nothing'"):
        recipe(cache, "sd", {"adapter": "nothing"})
    with pytest.raises(ModelRefused, match="not a safetensors file"):
        made(cache, recipe(cache, "sd", {"adapter": "bad"}))
    with pytest.raises(ModelRefused, match="adapter sdxl-1"):
        made(cache, recipe(cache, "sd", {"adapter": "sdxl-1"}))
    pinned = recipe(cache, "sd", {"adapter": "sd-1"})
    pinned["adapters"][0]["digest"] = "sha256:" + "0" * 64
    with pytest.raises(ModelChanged, match="pinned"):
        made(cache, pinned)
