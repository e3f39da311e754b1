"""Looks at a model folder before torch does: what it holds, how large it will be, and that nothing in it is a pickle.

A folder in the diffusers format is `model_index.json` ({"_class_name": pipeline, component: [library, class]}) and a
folder for each component, models with `config.json` and `*.safetensors`. A safetensors file is an 8-byte little-endian
length, that much JSON ({tensor: {"dtype", "shape", "data_offsets"}}), then bare numbers: reading it runs no code. A
pickle under that name does not get past `read_header`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spindle_worker.models.errors import ModelRefused

MAX_HEADER = 100 * 1024 * 1024
"""Bytes; the limit that the safetensors library has too."""

VAE_CLASSES = "Autoencoder"
"""How the names of diffusers' VAE classes begin."""
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
_OTHER_SIZES = {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1}
_LIBRARIES = {"diffusers", "transformers"}
_NEVER_LOADED = {"safety_checker", "feature_extractor"}
_PICKLES = ("*.bin", "*.ckpt", "*.pt", "*.pth", "*.pkl")


@dataclass(frozen=True)
class Contents:
    """What a model folder holds: `floats` numbers that take the working dtype, `other_bytes` that keep their own."""

    pipeline: str
    components: tuple[str, ...]
    variant: str | None
    floats: int
    other_bytes: int

    def size(self, item_bytes: int) -> int:
        """Bytes that the weights will take in a dtype of `item_bytes`."""
        return self.floats * item_bytes + self.other_bytes


def inspect_folder(folder: Path) -> Contents:
    """Read a model folder's index and the headers of its weights. Raises ModelRefused."""
    lone = _lone_vae(folder)
    if lone is not None:
        return lone
    index = read_json(folder / "model_index.json")
    components = _components(index)
    weighty = [name for name in components if (folder / name / "config.json").is_file()]
    if not weighty:
        raise ModelRefused("The model's folder has no component with a config.json")
    variants = {name: _variants(folder / name) for name in weighty}
    variant = _common_variant(variants)
    floats = other = 0
    for name in weighty:
        for path in variants[name].get(variant, variants[name].get(None, [])):
            more_floats, more_other = _count(read_header(path))
            floats, other = floats + more_floats, other + more_other
    return Contents(str(index["_class_name"]), tuple(components), variant, floats, other)


def _lone_vae(folder: Path) -> Contents | None:
    """What a folder with nothing but a VAE holds: `config.json` and weights; None for any other folder."""
    if (folder / "model_index.json").is_file() or not (folder / "config.json").is_file():
        return None
    name = read_json(folder / "config.json").get("_class_name")
    if not (isinstance(name, str) and name.startswith(VAE_CLASSES)):
        return None
    variants = _variants(folder)
    variant = _common_variant({"vae": variants})
    counted = [_count(read_header(path)) for path in variants[variant]]
    return Contents(name, ("vae",), variant, sum(each[0] for each in counted), sum(each[1] for each in counted))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a model folder. Raises ModelRefused."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelRefused(f"The model's folder has no {path.name}: it must be in the diffusers format") from None
    except (OSError, ValueError) as error:
        raise ModelRefused(f"The model's {path.name} cannot be read: {type(error).__name__}") from error
    if not isinstance(found, dict):
        raise ModelRefused(f"The model's {path.name} is not a JSON object")
    return found


def _components(index: Mapping[str, Any]) -> list[str]:
    """Names of the components we load; code that comes with a model is refused."""
    if not isinstance(index.get("_class_name"), str):
        raise ModelRefused("The model's model_index.json names no pipeline class of diffusers")
    found = []
    for name, value in index.items():
        if name.startswith("_") or name in _NEVER_LOADED or not isinstance(value, list) or value[:1] == [None]:
            continue
        if value[0] not in _LIBRARIES:
            raise ModelRefused(
                f"The model's {name} comes from {value[0]!r}; only diffusers and transformers are loaded"
            )
        found.append(name)
    return found


def _variants(folder: Path) -> dict[str | None, list[Path]]:
    """Weight files of one component by variant: model.fp16-00001-of-00002.safetensors is of variant fp16."""
    found: dict[str | None, list[Path]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        stem = path.name.removesuffix(".safetensors")
        _, dot, rest = stem.partition(".")
        found.setdefault(rest.partition("-")[0] if dot else None, []).append(path)
    if not found:
        pickled = any(next(folder.glob(pattern), None) for pattern in _PICKLES)
        why = "only pickled weights, which can run code: convert them to safetensors" if pickled else "no weights"
        raise ModelRefused(f"The model's {folder.name} has {why}")
    return found


def _common_variant(variants: Mapping[str, Mapping[str | None, list[Path]]]) -> str | None:
    """The variant to load: none where every component has plain weights, else the one they share."""
    lacking = [set(found) for found in variants.values() if None not in found]
    if not lacking:
        return None
    shared = set.intersection(*lacking)
    if not shared:
        raise ModelRefused("The model's components have no variant of the weights in common")
    return min(str(name) for name in shared)


def read_header(path: Path) -> dict[str, Any]:
    """Read and check a safetensors header. Raises ModelRefused."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(MAX_HEADER, size - 8):
                raise ValueError("no header")
            header = json.loads(file.read(length))
        _check_offsets(header, size - 8 - length)
    except (OSError, ValueError, KeyError, TypeError) as error:
        detail = f"{path.parent.name}/{path.name} is not a safetensors file, whatever its name says"
        raise ModelRefused(f"The model's {detail}") from error
    header.pop("__metadata__", None)
    return dict(header)


def _check_offsets(header: Any, room: int) -> None:
    if not isinstance(header, dict):
        raise TypeError("no object")
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        begin, end = tensor["data_offsets"]
        item = _SIZES.get(tensor["dtype"]) or _OTHER_SIZES[tensor["dtype"]]
        if not 0 <= begin <= end <= room or end - begin != math.prod(tensor["shape"]) * item:
            raise ValueError(f"{name} lies outside the file")


def _count(header: Mapping[str, Any]) -> tuple[int, int]:
    floats = other = 0
    for tensor in header.values():
        if tensor["dtype"] in _SIZES:
            floats += math.prod(tensor["shape"])
        else:
            other += math.prod(tensor["shape"]) * _OTHER_SIZES[tensor["dtype"]]
    return floats, other
