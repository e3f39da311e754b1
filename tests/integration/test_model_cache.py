"""The cache of loaded models: budget, pins, one load at a time, digests, hub folders, lack of memory."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from spindle_common.problems import OutOfMemory  # noqa: E402
from spindle_worker.diffusion import sampling  # noqa: E402
from spindle_worker.models import (  # noqa: E402
    CacheEvent,
    CacheOptions,
    ModelCache,
    ModelChanged,
    ModelLibrary,
    ModelRefused,
)
from spindle_worker.models.hub import fetch  # noqa: E402
from support import random_models  # noqa: E402
from support.diffusion import Noted, request_for  # noqa: E402


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("models")
    return {kind: str(random_models.save(kind, root / kind)) for kind in ("sd", "sd_tiny", "lcm")}


def cache_of(folders: dict[str, str], budget: int = 2**30, **options: Any) -> ModelCache:
    return ModelCache(ModelLibrary(folders, "sd"), CacheOptions(budget, device="cpu", threads=1, **options))


def test_loads_once_and_tells(folders: dict[str, str]) -> None:
    heard: list[CacheEvent] = []
    cache = cache_of(folders, listener=heard.append)
    with cache.use("sd") as model:
        assert cache.is_loaded("sd")
        assert model.recipe == cache.recipe("sd")
        with cache.use({"model": "sd"}) as again:
            assert again is model
    assert (cache.counts.loads, cache.counts.hits, cache.counts.evictions) == (1, 1, 0)
    assert [(event.kind, event.model) for event in heard] == [("loaded", "sd")]
    assert heard[0].seconds > 0
    loaded = {info.name: info.loaded for info in cache.infos()}
    assert loaded["sd"] is True
    assert loaded["lcm"] is False
    assert cache.held_bytes == model.size > 0


def test_least_recently_used_goes_first(folders: dict[str, str]) -> None:
    with cache_of(folders).use("sd") as model:
        room = int(model.size * 2.2)
    cache = cache_of(folders, room)
    for name in ("sd", "sd_tiny", "sd", "lcm"):
        with cache.use(name):
            pass
    assert cache.is_loaded("sd")
    assert not cache.is_loaded("sd_tiny")
    assert cache.counts.evictions == 1
    cache.clear()
    assert cache.held_bytes == 0


def test_waits_for_room_that_is_in_use(folders: dict[str, str]) -> None:
    with cache_of(folders).use("sd") as model:
        room = int(model.size * 1.5)
    cache, entered = cache_of(folders, room), threading.Event()

    def second() -> None:
        with cache.use("sd_tiny"):
            entered.set()

    with cache.use("sd"):
        other = threading.Thread(target=second)
        other.start()
        assert not entered.wait(0.5)
    other.join(20)
    assert entered.is_set()
    assert not cache.is_loaded("sd")


def test_a_waiter_can_give_up(folders: dict[str, str]) -> None:
    with cache_of(folders).use("sd") as model:
        room = int(model.size * 1.5)
    cache = cache_of(folders, room)

    def impatient() -> None:
        raise TimeoutError

    with cache.use("sd"):
        with pytest.raises(TimeoutError), cache.use("sd_tiny", impatient):
            pass
        assert not cache.is_loaded("sd_tiny")
    with cache.use("sd_tiny"):
        pass


def test_single_flight(folders: dict[str, str]) -> None:
    cache = cache_of(folders)
    together, seen = threading.Barrier(4), list[int]()

    def user() -> None:
        together.wait()
        with cache.use("sd") as model:
            seen.append(id(model))

    in_threads(user, 4)
    assert len(set(seen)) == 1
    assert (len(seen), cache.counts.loads) == (4, 1)


def test_a_failed_load_fails_those_who_wait_and_is_tried_again(folders: dict[str, str], tmp_path: Path) -> None:
    config = broken_copy(folders["sd"], tmp_path / "m") / "unet" / "config.json"
    cache = ModelCache(ModelLibrary({"m": str(tmp_path / "m")}, "m"), CacheOptions(2**30, device="cpu"))
    failures: list[Exception] = []

    def user() -> None:
        try:
            with cache.use("m"):
                pass
        except ModelRefused as error:
            failures.append(error)

    in_threads(user, 3)
    assert len(failures) == 3
    assert cache.held_bytes == 0
    shutil.copy(Path(folders["sd"]) / "unet" / "config.json", config)
    with cache.use("m"):
        assert cache.is_loaded("m")


def test_a_run_is_pinned_to_the_bytes(folders: dict[str, str], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folders["sd"], copy)
    cache = ModelCache(ModelLibrary({"sd": str(copy)}, "sd"), CacheOptions(2**30, device="cpu"))
    recipe = cache.recipe("sd")
    (copy / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "PNDMScheduler"}')
    with pytest.raises(ModelChanged, match="pinned"), cache.use(recipe):
        pass
    with cache.use("sd") as model:
        assert model.digest != recipe["digest"]


def test_a_model_over_the_budget_is_refused_before_it_is_loaded(folders: dict[str, str]) -> None:
    with pytest.raises(ModelRefused, match="SPINDLE_MODEL_MEMORY"), cache_of(folders, 1000).use("sd"):
        pass


def test_unloadable_folders_are_refused_without_paths(folders: dict[str, str], tmp_path: Path) -> None:
    library = ModelLibrary({"m": str(broken_copy(folders["sd"], tmp_path / "m"))}, "m")
    cache = ModelCache(library, CacheOptions(2**30, device="cpu"))
    with pytest.raises(ModelRefused, match="cannot be loaded") as caught, cache.use():
        pass
    assert str(tmp_path) not in str(caught.value)


def test_lack_of_memory_is_a_problem_that_frees_what_is_idle(folders: dict[str, str]) -> None:
    cache = cache_of(folders)
    with cache.use("sd_tiny"):
        pass
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory")):
        with pytest.raises(OutOfMemory), cache.use("sd"):
            raise error
    assert not cache.is_loaded("sd_tiny")
    with pytest.raises(RuntimeError, match="something else"), cache.use("sd"):
        raise RuntimeError("something else")


def test_half_precision(folders: dict[str, str]) -> None:
    with cache_of(folders, dtype="bfloat16").use("sd") as model:
        assert model.pipe.unet.dtype == torch.bfloat16
        half = model.size
    with cache_of(folders).use("sd") as model:
        assert model.pipe.unet.dtype == torch.float32
        assert half < model.size


def test_a_hub_id_is_found_in_the_hubs_cache(folders: dict[str, str], tmp_path: Path) -> None:
    repository = tmp_path / "models--someone--something"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123456789abcdef0123456789abcdef01234567")
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(folders["sd"], snapshot)
    assert fetch("someone/something", tmp_path) == snapshot
    assert fetch("someone/something@main", tmp_path) == snapshot


def in_threads(work: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)


def broken_copy(folder: str, copy: Path) -> Path:
    """A model whose weights do not fit its configuration."""
    shutil.copytree(folder, copy)
    (copy / "unet" / "config.json").write_text('{"_class_name": "UNet2DConditionModel", "cross_attention_dim": 7}')
    return copy


@pytest.mark.parametrize("pipeline", ["StableDiffusionPipeline", "LatentConsistencyModelPipeline"])
def test_a_safety_checker_is_left_where_it_is(folders: dict[str, str], tmp_path: Path, pipeline: str) -> None:
    shutil.copytree(folders["lcm"], tmp_path / "m")
    index = json.loads((tmp_path / "m" / "model_index.json").read_text())
    index |= {"_class_name": pipeline, "requires_safety_checker": True}
    index |= {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}
    (tmp_path / "m" / "model_index.json").write_text(json.dumps(index))
    cache = ModelCache(ModelLibrary({"m": str(tmp_path / "m")}, "m"), CacheOptions(2**30, device="cpu"))
    with cache.use() as model:
        assert (model.layout, type(model.pipe).__name__) == ("sd", pipeline)
        assert model.pipe.safety_checker is None
        assert sampling.generate(model, request_for(model), Noted()).size == (32, 32)
