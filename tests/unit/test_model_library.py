"""Model folders: names, digests, recommended settings, and the refusal of everything that could run code."""

import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest

from spindle_common.problems import BadInput
from spindle_worker.models import ModelLibrary, ModelRefused, ModelUnknown
from spindle_worker.models.digests import FileHashes, model_files
from spindle_worker.models.weights import inspect_folder, read_header


def safetensors(tensors: dict[str, tuple[str, list[int], int]]) -> bytes:
    """A safetensors file by hand: name -> (dtype, shape, bytes)."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}  # type: ignore[dict-item]
        offset += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(offset)


WEIGHTS = safetensors({"w": ("F32", [2, 3], 24), "half": ("F16", [4], 8), "ids": ("I64", [2], 16)})


def folder(root: Path, **files: bytes | str | None) -> Path:
    """A model folder with one UNet; `files` replaces or, by None, removes some (`__` stands for `/`)."""
    usual: dict[str, bytes | str | None] = {
        "model_index.json": json.dumps(
            {
                "_class_name": "StableDiffusionPipeline",
                "unet": ["diffusers", "UNet2DConditionModel"],
                "scheduler": ["diffusers", "EulerDiscreteScheduler"],
                "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
                "feature_extractor": [None, None],
            }
        ),
        "scheduler/scheduler_config.json": "{}",
        "unet/config.json": "{}",
        "unet/diffusion_pytorch_model.safetensors": WEIGHTS,
    }
    for name, content in (usual | files).items():
        path = root / name
        if content is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def test_counts_weights_by_kind(tmp_path: Path) -> None:
    contents = inspect_folder(folder(tmp_path))
    assert (contents.floats, contents.other_bytes, contents.variant) == (10, 16, None)
    assert contents.size(4) == 56
    assert contents.size(2) == 36
    assert contents.pipeline == "StableDiffusionPipeline"


@pytest.mark.parametrize(
    "bad",
    [
        pickle.dumps({"weight": os.system}),
        b"PK\x03\x04" + bytes(1000),
        b"",
        b"\x02",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 5) + b"{nope",
        safetensors({"w": ("F32", [2, 3], 20)}),
        safetensors({"w": ("F99", [1], 4)}),
        WEIGHTS[:-1],
    ],
)
def test_refuses_what_only_pretends_to_be_safetensors(tmp_path: Path, bad: bytes) -> None:
    name = "unet/diffusion_pytorch_model.safetensors"
    with pytest.raises(ModelRefused, match="is not a safetensors file"):
        inspect_folder(folder(tmp_path, **{name: bad}))


def test_refuses_pickled_weights(tmp_path: Path) -> None:
    files = {"unet/diffusion_pytorch_model.safetensors": None, "unet/diffusion_pytorch_model.bin": b"\x80\x04."}
    with pytest.raises(ModelRefused, match="has only pickled weights"):
        inspect_folder(folder(tmp_path, **files))


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"model_index.json": None}, "has no model_index.json"),
        ({"model_index.json": "{"}, "cannot be read"),
        ({"model_index.json": "[]"}, "not a JSON object"),
        ({"model_index.json": "{}"}, "names no pipeline class"),
        ({"model_index.json": '{"_class_name": ["pipeline", "Mine"]}'}, "names no pipeline class"),
        ({"model_index.json": '{"_class_name": "X", "unet": ["my_code", "Net"]}'}, "only diffusers and transformers"),
        ({"model_index.json": '{"_class_name": "X"}'}, "no component"),
        ({"unet/diffusion_pytorch_model.safetensors": None}, "no weights"),
    ],
)
def test_says_what_is_wrong_with_a_folder(tmp_path: Path, files: dict[str, Any], why: str) -> None:
    with pytest.raises(ModelRefused, match=why):
        inspect_folder(folder(tmp_path, **files))


def test_takes_a_variant_where_plain_weights_are_missing(tmp_path: Path) -> None:
    plain, half = "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"
    assert inspect_folder(folder(tmp_path / "one", **{plain: None, half: WEIGHTS})).variant == "fp16"
    both = inspect_folder(folder(tmp_path / "both", **{half: WEIGHTS}))
    assert (both.variant, both.floats) == (None, 10)
    sharded = "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors"
    assert inspect_folder(folder(tmp_path / "shards", **{plain: None, sharded: WEIGHTS})).variant == "fp16"


def test_digest_names_the_bytes_and_nothing_else(tmp_path: Path) -> None:
    one, same = (ModelLibrary({"m": str(folder(tmp_path / name))}, "m").entry("m").digest for name in ("a", "b"))
    assert one == same
    (tmp_path / "b" / "README.md").write_text("hello")
    (tmp_path / "b" / ".cache").mkdir()
    (tmp_path / "b" / ".cache" / "x.json").write_text("{}")
    assert FileHashes().model_digest(model_files(tmp_path / "b")) == one
    (tmp_path / "b" / "unet" / "config.json").write_text('{"a": 1}')
    assert ModelLibrary({"m": str(tmp_path / "b")}, "m").entry("m").digest != one


def test_digest_follows_changed_files(tmp_path: Path) -> None:
    library = ModelLibrary({"m": str(folder(tmp_path))}, "m")
    before = library.entry("m")
    assert library.entry("m") is before
    (tmp_path / "unet" / "config.json").write_text('{"changed": true}')
    assert library.entry("m").digest != before.digest


def test_hashes_are_remembered_by_path_size_and_time(tmp_path: Path) -> None:
    model, data = folder(tmp_path / "m"), tmp_path / "data"
    first = ModelLibrary({"m": str(model)}, "m", data).entry("m").digest
    config = model / "unet" / "config.json"
    stamp = config.stat().st_mtime_ns
    config.write_text("[]")  # as long as before
    os.utime(config, ns=(stamp, stamp))
    assert ModelLibrary({"m": str(model)}, "m", data).entry("m").digest == first
    os.utime(config, ns=(stamp, stamp + 1))
    assert ModelLibrary({"m": str(model)}, "m", data).entry("m").digest != first


@pytest.mark.parametrize("torn", [b"", b"{", b"[]", b'{"x": 1}'])
def test_a_torn_memory_of_hashes_is_started_anew(tmp_path: Path, torn: bytes) -> None:
    store = tmp_path / "data" / "models" / "hashes.json"
    store.parent.mkdir(parents=True)
    store.write_bytes(torn)
    library = ModelLibrary({"m": str(folder(tmp_path / "m"))}, "m", tmp_path / "data")
    assert library.entry("m").digest.startswith("sha256:")
    assert len(json.loads(store.read_bytes())) >= 4


def test_recommended_settings(tmp_path: Path) -> None:
    recommended = json.dumps({"steps": 12, "guidance": 2, "width": 64, "height": 128, "name": "m"})
    good = folder(tmp_path / "good", **{"spindle.json": recommended})
    library = ModelLibrary({"good": str(good), "bare": str(folder(tmp_path / "bare"))}, "good")
    infos = {info.name: info for info in library.infos()}
    assert infos["good"].settings == {"steps": 12, "guidance": 2.0, "width": 64, "height": 128}
    assert infos["good"].default is True
    assert (infos["bare"].settings, infos["bare"].default) == ({}, False)
    assert infos["good"].pipeline == "StableDiffusionPipeline"
    bad = folder(tmp_path / "bad", **{"spindle.json": '{"steps": 0}'})
    with pytest.raises(ModelRefused, match=r"spindle\.json: steps"):
        ModelLibrary({"bad": str(bad)}, "bad").entry("bad")


def test_unusable_models_are_left_out_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    library = ModelLibrary({"good": str(folder(tmp_path / "good")), "gone": str(tmp_path / "gone")}, "good")
    names = [info.name for info in library.infos()]
    assert "good" in names
    assert "gone" not in names
    assert "gone cannot be used" in caplog.text
    assert str(tmp_path) not in caplog.text


@pytest.mark.parametrize("name", ["../etc", "/models/x", "a b", "", "A", "x" * 65, "a/b", "-x"])
def test_names_are_no_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no model name"):
        ModelLibrary({name: str(tmp_path)}, name)
    library = ModelLibrary({"m": str(folder(tmp_path))}, "m")
    with pytest.raises(ModelUnknown) as caught:
        library.entry(name)
    assert isinstance(caught.value, BadInput)
    assert caught.value.problem()["type"] == "urn:spindle:problem:model-unknown"


def test_default_must_be_configured() -> None:
    with pytest.raises(ValueError, match="default model 'other' is not configured"):
        ModelLibrary({}, "other")


def test_recipes(tmp_path: Path) -> None:
    library = ModelLibrary({"m": str(folder(tmp_path))}, "m")
    full = {"model": "m", "digest": library.entry("m").digest, "adapters": []}
    assert library.recipe() == library.recipe("m") == library.recipe({"model": "m"}) == library.recipe(full) == full
    pinned = "sha256:" + "0" * 64
    assert library.recipe({"model": "m", "digest": pinned})["digest"] == pinned
    with pytest.raises(ModelRefused, match="adapters: adapter: Field required"):
        library.recipe({"model": "m", "adapters": [{"name": "x"}]})
    with pytest.raises(ModelUnknown, match="No adapter is called 'x'; there are none"):
        library.recipe({"model": "m", "adapters": [{"adapter": "x"}]})


def test_adapters_are_configured_beside_models(tmp_path: Path) -> None:
    file = tmp_path / "pixel.safetensors"
    file.write_bytes(WEIGHTS)
    sources = {"m": folder(tmp_path / "m"), "pixel": file, "gone": tmp_path / "x.safetensors"}
    library = ModelLibrary({name: str(source) for name, source in sources.items()}, "m")
    assert [info.name for info in library.infos()] == ["tiny", "m"]
    adapters = library.recipe({"model": "m", "adapters": [{"adapter": "pixel", "weight": 0.5}]})["adapters"]
    digest = library.adapter("pixel").digest
    assert adapters == [{"adapter": "pixel", "weight": 0.5, "text_weight": 0.5, "digest": digest}]
    assert library.recipe({"model": "m", "adapters": adapters})["adapters"] == adapters
    file.write_bytes(WEIGHTS + b" ")
    assert library.adapter("pixel").digest != digest
    with pytest.raises(ModelUnknown, match="No model is called 'pixel'"):
        library.entry("pixel")
    with pytest.raises(ModelRefused, match="file configured for the adapter gone"):
        library.adapter("gone")
    with pytest.raises(ValueError, match="default model 'pixel'"):
        ModelLibrary({"pixel": str(file)}, "pixel")
    with pytest.raises(ModelRefused, match="at most 16"):
        library.recipe({"model": "m", "adapters": [{"adapter": "pixel"}] * 17})


def test_header_is_returned_without_metadata(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(WEIGHTS)
    assert set(read_header(path)) == {"w", "half", "ids"}
