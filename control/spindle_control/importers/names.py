"""Names: of what people and other programs call things, ids that a workflow can have."""

import re
from collections.abc import Container
from urllib.parse import urlsplit

from spindle_control.compiler.structure import RESERVED

_LONGEST = 48
_MODEL = re.compile(r"[^a-z0-9._-]+")
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_SUFFIXES = (".safetensors", ".ckpt", ".pth", ".pt", ".bin", ".sft", ".gguf")


def slug(text: str, otherwise: str = "node") -> str:
    """Make an id of a title or a class name: `KSampler (Advanced)` becomes `k_sampler_advanced`."""
    words = "_".join(word.lower() for word in _WORDS.findall(text[:200]))[:_LONGEST].strip("_")
    return words if words[:1].isalpha() else f"{otherwise}_{words}".rstrip("_")


def unique(wanted: str, taken: Container[str]) -> str:
    """Return the id itself, or with the first number that is free."""
    if wanted in RESERVED:
        wanted += "_"
        wanted = f"{wanted}1"
    found, number = wanted, 2
    while found in taken:
        found, number = f"{wanted}_{number}", number + 1
    return found


def model_name(file: str) -> str:
    """Make a model's name of its file's: its last part without suffix, in letters that such names have."""
    path = urlsplit(file).path if "://" in file[:16] else file
    last = re.split(r"[/\\]", path)[-1]
    for suffix in _SUFFIXES:
        last = last.removesuffix(suffix)
    return _MODEL.sub("-", last.lower())[:64].strip("-._") or "model"
