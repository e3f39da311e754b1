"""Runs a node without a server, for authors' tests:

    ran = run_node(shout, {"text": "hello"})
    assert ran["text"] == "HELLO"

Artifacts live in a dict: `files` holds the bytes that inputs refer to, and gets what the node writes.

    files = {}
    photo = stored(files, png_bytes, "image/png")
    small = run_node(resize, {"image": photo, "scale": 0.5}, files=files)["image"]
    files[small.digest]
"""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from PIL.Image import Image as Picture
from pydantic import ValidationError

from spindle_common.contracts import Artifact
from spindle_common.problems import BadInput, NotFound
from spindle_worker.context import Context, Sinks
from spindle_worker.node import NodeSpec, ports

__all__ = ["MemoryArtifacts", "Reports", "context_for", "run_node", "stored"]


@dataclass
class MemoryArtifacts:
    """An object store in a dict of bytes by digest."""

    files: dict[str, bytes] = field(default_factory=dict)

    def read(self, artifact: Artifact) -> bytes:
        """Return the bytes. Raises NotFound."""
        if artifact.digest not in self.files:
            raise NotFound(f"There is no artifact {artifact.digest}")
        return self.files[artifact.digest]

    def write(self, data: bytes, media_type: str) -> Artifact:
        """Keep the bytes and name them."""
        return Artifact(**stored(self.files, data, media_type))


@dataclass
class Reports:
    """What a node reported while it ran, and what it is told of its run."""

    progress: list[dict[str, Any]] = field(default_factory=list)
    previews: list[Picture] = field(default_factory=list)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def sinks(self) -> Sinks:
        """Give a context's sinks that end here."""
        return Sinks(
            progress=lambda _node, tick: self.progress.append(tick),
            preview=lambda _node, picture: self.previews.append(picture),
            provenance=lambda: self.provenance,
        )


def stored(files: dict[str, bytes], data: bytes, media_type: str) -> dict[str, Any]:
    """Put bytes into `files` and return the artifact that names them, as JSON."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    files[digest] = data
    return {"digest": digest, "media_type": media_type, "size": len(data)}


def context_for(
    node: str = "node",
    *,
    models: Any = None,
    files: dict[str, bytes] | None = None,
    reports: Reports | None = None,
) -> Context:
    """Build a context whose artifacts are `files` and whose reports end in `reports`."""
    return Context(
        run="run",
        node=node,
        attempt=1,
        artifacts=MemoryArtifacts({} if files is None else files),
        sinks=(reports or Reports()).sinks(),
        models=models,
        stop=threading.Event(),
    )


def run_node(
    function: Callable[..., Any],
    inputs: Mapping[str, Any],
    *,
    models: Any = None,
    files: dict[str, bytes] | None = None,
    context: Context | None = None,
) -> dict[str, Any]:
    """Run a node function on JSON inputs and return its outputs by port, artifacts as Artifact objects.

    Raises:
        BadInput: the inputs do not fit its ports, as a worker would say.

    """
    spec: NodeSpec = function.spec  # type: ignore[attr-defined]
    ctx = context or context_for(models=models, files=files)
    given = _checked(spec, inputs)
    if spec.native:
        outputs = function(given, ctx)
    else:
        with ThreadPoolExecutor(1) as pool:  # the caller may be inside an event loop
            outputs = pool.submit(lambda: asyncio.run(function(given, ctx))).result()
    return {name: getattr(outputs, name) for name in type(outputs).model_fields}


def _checked(spec: NodeSpec, inputs: Mapping[str, Any]) -> Any:
    recipes = {name for name, port in ports(spec.inputs).items() if (port.schema_ or {}).get("x-spindle") == "model"}
    full = {k: {"model": v} if k in recipes and isinstance(v, str) else v for k, v in inputs.items()}
    try:
        return spec.inputs.model_validate(full)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise BadInput(f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from error
