"""Names a node by what it computes: a digest of its type, its code, its inputs and what else may change its pixels.

An artifact counts by its digest, a model by the digest of its weights, a handle by the key of whoever made it. A node
has no key when it reads a secret, when a handle's maker has none, or when its seed is drawn by the node itself.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from spindle_common import __version__
from spindle_common.digests import digest, digest_of
from spindle_common.problems import SpindleError
from spindle_worker.node import NodeSpec, ports

_ARTIFACT = frozenset({"digest", "media_type", "size"})
_NATIVE = ("pillow", "numpy")
_MODEL = ("torch", "diffusers", "transformers")


@dataclass(frozen=True)
class HandleRef:
    """A handle as nodes of an attempt pass it on: who makes it, and that one's key, if it has one."""

    id: str
    port: str
    key: str | None


class _KeylessError(Exception):
    """The node cannot be named."""


@dataclass(frozen=True)
class _Kind:
    """What is known of a type once and for all; `about` is a digest of all that is the same for each of its nodes."""

    about: str
    models: frozenset[str]
    handles: frozenset[str]
    draws_seed: bool


class Keys:
    """Makes keys; `models` tells the digest of a model that is only named."""

    def __init__(self, around: Mapping[str, str], models: Any = None) -> None:
        self._around, self._models = dict(around), models
        self._kinds: dict[str, _Kind] = {}

    def of(self, spec: NodeSpec, inputs: Mapping[str, Any]) -> str | None:
        """Return the key of a node with these inputs: 64 hex digits."""
        kind = self._kinds.get(spec.type) or self._kinds.setdefault(spec.type, self._kind(spec))
        if kind.draws_seed and inputs.get("seed") is None:
            return None
        try:
            named = {port: self._named(kind, port, value) for port, value in inputs.items()}
            return digest([kind.about, named, self._unsaid(kind, inputs)]).removeprefix("sha256:")
        except (_KeylessError, ValueError, SpindleError):
            return None

    def _kind(self, spec: NodeSpec) -> _Kind:
        takes = ports(spec.inputs)
        models = frozenset(name for name, port in takes.items() if (port.schema_ or {}).get("x-spindle") == "model")
        handles = frozenset(name for name, port in takes.items() if port.kind == "handle")
        wire = spec.node_type(None).model_dump(mode="json", by_alias=True, include={"inputs", "outputs"})
        around = versions(_NATIVE) if spec.native else {}
        around |= versions(_MODEL) | self._around if models else {}
        about = digest([spec.type, _code(spec), wire, around])
        return _Kind(about, models, handles, "seed" in takes)

    def _named(self, kind: _Kind, port: str, value: Any) -> Any:
        return self._model(value) if port in kind.models else _plain(value)

    def _unsaid(self, kind: _Kind, inputs: Mapping[str, Any]) -> Any:
        """The default model, where none is named; whoever takes a handle uses the model that made it."""
        if not kind.models or any(inputs.get(port) is not None for port in kind.models | kind.handles):
            return None
        return self._model(None)

    def _model(self, value: Any) -> Any:
        if not isinstance(value, Mapping) or "digest" not in value:
            if self._models is None:
                raise _KeylessError
            value = self._models.recipe(value)
        return [value["digest"], value.get("adapters", [])]


def environment(device: str, dtype: str) -> dict[str, str]:
    """What of a worker's settings may change the pixels that a model makes."""
    return {"device": device.partition(":")[0], "dtype": dtype}


@cache
def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Versions of those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _code(spec: NodeSpec) -> list[str]:
    """Our version, and the file in which the node stands: what else it calls comes with a version."""
    try:
        source = inspect.getsourcefile(spec.function)
        return [__version__, digest_of(Path(source).read_bytes()) if source else ""]
    except (OSError, TypeError):
        return [__version__, ""]


def _plain(value: Any) -> Any:
    """Put what is meant in the place of how it is written; the marks are no text that anybody writes by chance."""
    if isinstance(value, HandleRef):
        if value.key is None:
            raise _KeylessError
        return {"\0handle": [value.key, value.port]}
    if isinstance(value, dict):
        if value.keys() == _ARTIFACT:
            return {"\0artifact": value["digest"]}
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
