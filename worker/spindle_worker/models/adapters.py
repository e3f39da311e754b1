"""Adapters (LoRA): files of small weights that are laid over a model's, each with a weight of its own.

    {"adapter": "pixel", "weight": 0.8, "text_weight": 0.8, "digest": "sha256:…"}      in a recipe's `adapters`

They are configured beside the models: a name whose source is a `*.safetensors` file. A model with adapters is loaded
apart from the model without them, their weights added into its own, so that sampling costs the same.
"""

import importlib.util
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spindle_worker.models.errors import ModelRefused
from spindle_worker.models.weights import read_header

SUFFIX = ".safetensors"
MAX_ADAPTERS = 16

log = logging.getLogger(__name__)


class Laid(BaseModel):
    """An adapter as a recipe has it; `text_weight` is that over the text encoders, as large as `weight` if unset."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    adapter: Annotated[str, Field(max_length=64)]
    weight: Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)] = 1.0
    text_weight: Annotated[float | None, Field(ge=-100, le=100, allow_inf_nan=False)] = None
    digest: str | None = None


@dataclass(frozen=True)
class AdapterFile:
    """A configured adapter whose file has been looked at."""

    name: str
    path: Path
    digest: str


def is_adapter(source: str) -> bool:
    """Whether a source is an adapter's file, not a model's folder."""
    return source.endswith(SUFFIX)


def read_laid(given: object) -> list[Laid]:
    """Read a recipe's adapters. Raises ModelRefused."""
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) > MAX_ADAPTERS:
        raise ModelRefused(f"A recipe's adapters are a list of at most {MAX_ADAPTERS}")
    try:
        return [Laid.model_validate(each) for each in given]
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ModelRefused(f"A recipe's adapters: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from error


def key_of(adapters: Sequence[Mapping[str, Any]]) -> str:
    """Name a list of adapters: the same text for the same files with the same weights."""
    return json.dumps(list(adapters), sort_keys=True) if adapters else ""


def lay_over(pipe: Any, files: Sequence[AdapterFile], laid: Sequence[Laid]) -> None:
    """Add adapters' weights into those of a pipeline. Raises ModelRefused where they do not fit."""
    if importlib.util.find_spec("peft") is None:
        raise ModelRefused("Adapters need the package peft, which this worker does not have")
    names = [f"adapter_{at}" for at in range(len(files))]
    for name, file in zip(names, files, strict=True):
        _load(pipe, file, name)
    there = set(pipe.get_list_adapters())
    weights = [{component: _weight(component, each) for component in there} for each in laid]
    pipe.set_adapters(names, weights)
    pipe.fuse_lora(components=sorted(there), adapter_names=names)
    pipe.unload_lora_weights()


def _load(pipe: Any, file: AdapterFile, name: str) -> None:
    read_header(file.path)
    try:
        options = {"weight_name": file.path.name, "adapter_name": name, "local_files_only": True}
        pipe.load_lora_weights(str(file.path.parent), **options)
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # of whatever file somebody put there
        log.warning("the adapter %s cannot be laid over the model", file.name, exc_info=error)
        raise ModelRefused(f"The adapter {file.name} does not fit the model; the worker's log says more") from error
    if name not in {each for names in pipe.get_list_adapters().values() for each in names}:
        raise ModelRefused(f"The adapter {file.name} holds nothing for this model")


def _weight(component: str, laid: Laid) -> float:
    text = laid.weight if laid.text_weight is None else laid.text_weight
    return text if component.startswith("text_encoder") else laid.weight
