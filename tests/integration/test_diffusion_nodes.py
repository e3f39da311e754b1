"""The model nodes, run without a server on random models and on the one that ships with the worker."""

import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.diffusion import random_cache

pytest.importorskip("torch")

from spindle_common.problems import BadInput
from spindle_worker.context import Cancelled
from spindle_worker.models import CacheOptions, ModelCache, ModelLibrary
from spindle_worker.nodes.image import edit, generate
from spindle_worker.nodes.latent import decode, encode, sample, text_encode
from spindle_worker.nodes.model import load
from spindle_worker.nodes.save import save
from spindle_worker.testing import Reports, context_for, run_node, stored

SMALL = {"prompt": "a red circle", "steps": 3, "width": 32, "height": 32, "seed": 5}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> ModelCache:
    root = tmp_path_factory.mktemp("models")
    cache = random_cache(root, "sd", "sd_tiny", "sdxl", "sd3")
    (root / "sd_tiny" / "spindle.json").write_text('{"steps": 2, "guidance": 1.5, "width": 24, "height": 16}')
    return cache


def picture_of(files: dict[str, bytes], artifact: Any) -> Image.Image:
    return Image.open(io.BytesIO(files[artifact.digest]))


def photo(files: dict[str, bytes], width: int = 32, height: int = 32) -> dict[str, Any]:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).save(out, "PNG")
    return stored(files, out.getvalue(), "image/png")


@pytest.mark.parametrize("model", ["sd", "sdxl", "sd3"])
def test_generates_the_same_bytes_for_the_same_inputs(cache: ModelCache, model: str) -> None:
    files: dict[str, bytes] = {}
    first, again, other = (
        run_node(generate, SMALL | {"model": model, "seed": seed}, models=cache, files=files) for seed in (5, 5, 6)
    )
    assert first["image"].digest == again["image"].digest != other["image"].digest
    assert (first["seed"], other["seed"]) == (5, 6)
    assert picture_of(files, first["image"]).size == (32, 32)


@pytest.mark.parametrize("model", ["sd", "sdxl", "sd3"])
def test_parts_make_what_the_whole_makes(cache: ModelCache, model: str) -> None:
    files: dict[str, bytes] = {}
    whole = run_node(generate, SMALL | {"model": model, "guidance": 3}, models=cache, files=files)
    recipe = run_node(load, {"model": model}, models=cache)["model"]
    words = run_node(text_encode, {"prompt": SMALL["prompt"], "model": recipe}, models=cache)["conditioning"]
    rest = {key: SMALL[key] for key in ("steps", "width", "height", "seed")} | {"guidance": 3}
    made = run_node(sample, rest | {"conditioning": words, "model": recipe}, models=cache)
    picture = run_node(decode, {"latents": made["latents"], "model": recipe}, models=cache, files=files)["image"]
    assert made["seed"] == 5
    parts = picture_of(files, picture)
    if model == "sd3":  # its pipeline rounds in its own way
        assert parts.size == picture_of(files, whole["image"]).size
    else:
        assert picture.digest == whole["image"].digest


def test_latents_go_on_from_a_picture(cache: ModelCache) -> None:
    files: dict[str, bytes] = {}
    words = run_node(text_encode, {"prompt": "a"}, models=cache)["conditioning"]
    start = run_node(encode, {"image": photo(files, 37, 33)}, models=cache, files=files)["latents"]
    assert (start.width, start.height) == (32, 32)
    given = {"conditioning": words, "latents": start, "strength": 0.5, "steps": 4}
    reports = Reports()
    made = run_node(sample, given, context=context_for(models=cache, files=files, reports=reports))
    assert reports.progress[-1] == {"done": 2, "total": 2}
    picture = run_node(decode, {"latents": made["latents"]}, models=cache, files=files)["image"]
    assert picture_of(files, picture).size == (32, 32)
    with pytest.raises(BadInput, match="32 x 32, not 64 x 32"):
        run_node(sample, given | {"width": 64}, models=cache)


@pytest.mark.parametrize("model", ["sd", "sdxl", "sd3"])
def test_edits(cache: ModelCache, model: str) -> None:
    files: dict[str, bytes] = {}
    image = photo(files, 40, 24)
    inputs = {"prompt": "a", "steps": 4, "seed": 1, "model": model, "image": image, "strength": 0.5}
    made = run_node(edit, inputs, models=cache, files=files)
    assert picture_of(files, made["image"]).size == (40, 24)
    sized = run_node(edit, inputs | {"width": 32, "height": 48}, models=cache, files=files)
    assert picture_of(files, sized["image"]).size == (32, 48)


@pytest.mark.parametrize("size", [(8, 8), (3000, 16)])
def test_edits_refuse_sizes_they_cannot_work_with(cache: ModelCache, size: tuple[int, int]) -> None:
    files: dict[str, bytes] = {}
    with pytest.raises(BadInput, match=r"image\.resize"):
        run_node(edit, {"prompt": "a", "image": photo(files, *size)}, models=cache, files=files)


def test_what_is_unset_follows_the_model(cache: ModelCache) -> None:
    files: dict[str, bytes] = {}
    reports = Reports()
    context = context_for("x", models=cache, files=files, reports=reports)
    made = run_node(generate, {"prompt": "a", "model": "sd_tiny"}, context=context)
    assert picture_of(files, made["image"]).size == (24, 16)
    assert reports.progress[-1] == {"done": 2, "total": 2}
    assert made["seed"] == context.seed_for()


def test_what_the_model_is_silent_on_follows_its_pipeline(cache: ModelCache) -> None:
    from spindle_worker.nodes.sampling import usual_settings

    with cache.use("sd") as model:
        assert usual_settings(model) == {"steps": 50, "guidance": 7.5, "width": 32, "height": 32}
    with cache.use("sdxl") as model:
        assert usual_settings(model) == {"steps": 50, "guidance": 5.0, "width": 32, "height": 32}
    with cache.use("sd3") as model:
        assert usual_settings(model) == {"steps": 28, "guidance": 7.0, "width": 32, "height": 32}


def test_reports_loading_steps_and_previews(tmp_path: Path) -> None:
    reports = Reports()
    cold = random_cache(tmp_path, "sd")
    run_node(generate, SMALL | {"steps": 40}, context=context_for(models=cold, reports=reports))
    assert reports.progress[0] == {"done": 0, "total": 1, "message": "loading the model sd"}
    assert [tick["done"] for tick in reports.progress[1:]][-1] == 40
    assert reports.previews
    assert reports.previews[0].size == (32, 32)


@pytest.mark.parametrize("model", ["sd", "sd3"])
def test_cancels_between_steps(cache: ModelCache, model: str) -> None:
    context = context_for(models=cache)
    with cache.use(model):
        pass
    threading.Timer(0.3, context.stop.set).start()
    with pytest.raises(Cancelled):
        run_node(generate, SMALL | {"steps": 900, "model": model}, context=context)
    with cache.use(model):
        assert cache.is_loaded(model)


@pytest.mark.parametrize(
    "inputs",
    [
        {"prompt": "x" * 20_001},
        {"steps": 0},
        {"steps": 1001},
        {"width": 33},
        {"width": 4096},
        {"height": 8},
        {"guidance": -1},
        {"seed": -1},
        {"seed": 2**53},
        {"scheduler": "magic"},
        {"model": "../../etc"},
        {"model": "sdxl", "strength": 1},
        {"guidance": float("nan")},
    ],
)
def test_refuses(cache: ModelCache, inputs: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        run_node(generate, SMALL | inputs, models=cache)


def test_handles_belong_to_their_model(cache: ModelCache) -> None:
    words = run_node(text_encode, {"prompt": "a", "model": "sd"}, models=cache)["conditioning"]
    with pytest.raises(BadInput, match="made by the model sd, and sdxl cannot"):
        run_node(sample, {"conditioning": words, "model": "sdxl", "steps": 1}, models=cache)
    made = run_node(sample, {"conditioning": words, "steps": 1}, models=cache)["latents"]
    with pytest.raises(BadInput, match="made by the model sd"):
        run_node(decode, {"latents": made, "model": "sdxl"}, models=cache)
    with pytest.raises(BadInput, match="no LatentBatch"):
        run_node(decode, {"latents": words}, models=cache)


def test_saved_file_names_the_models_digest(cache: ModelCache) -> None:
    files: dict[str, bytes] = {}
    workflow = {"nodes": {"image": {"type": "image.generate@1", "inputs": {"prompt": "a", "model": "sd"}}}}
    reports = Reports(provenance={"workflow": workflow, "inputs": {}, "run": "r", "versions": {}})
    context = context_for(models=cache, files=files, reports=reports)
    image = run_node(save, {"image": photo(files), "model": "sdxl"}, context=context)["image"]
    body = json.loads(picture_of(files, image).text["spindle"])  # type: ignore[attr-defined]
    assert body["models"] == {name: cache.recipe(name)["digest"] for name in ("sd", "sdxl")}


def test_the_shipped_model_makes_a_picture_of_its_size() -> None:
    library = ModelLibrary({})
    info = {info.name: info for info in library.infos()}["tiny"]
    cache = ModelCache(library, CacheOptions(2**30, device="cpu"))
    files: dict[str, bytes] = {}
    prompt = {"prompt": "a large red circle on a blue background", "seed": 1}
    made = run_node(generate, prompt, models=cache, files=files)
    picture = picture_of(files, made["image"])
    assert picture.size == (info.settings["width"], info.settings["height"])
