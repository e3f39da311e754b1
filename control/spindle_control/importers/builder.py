"""A workflow while it is built: ids are given out, and each part remembers where in the foreign document it comes from.

builder = Builder("poster")
seed = builder.input("seed", {"type": "integer", "default": 7}, origin)      # {"$from": "inputs.seed"}
id_ = builder.node("k_sampler", "image.sample@1", {"seed": seed}, origin)
builder.output("image", {"$from": f"{id_}.latents"}, origin)
"""

import re
from typing import Any

from spindle_common.contracts import Mistake
from spindle_common.problems import pointer
from spindle_control.importers.names import slug, unique

Path = tuple[str | int, ...]
Json = dict[str, Any]
SCHEMA = "spindle.workflow/v1"
_ID = re.compile(r"[a-z][a-z0-9_]{0,63}")


def ref(node: str, port: str) -> Json:
    """A reference to what a node gives."""
    return {"$from": f"{node}.{port}"}


class Builder:
    """Collects inputs, nodes and outputs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._inputs: dict[str, Json] = {}
        self._nodes: dict[str, Json] = {}
        self._outputs: dict[str, Any] = {}
        self._shared: dict[tuple[str, object], str] = {}
        self._origins: dict[str, Path] = {}

    def input(self, wanted: str, spec: Json, origin: Path, shared: object = None) -> Json:
        """Declare an input and return a reference to it; one that is `shared` under the same key is declared once."""
        key = (wanted, shared)
        if shared is None or key not in self._shared:
            id_ = unique(wanted, self._inputs)
            self._inputs[id_] = spec
            self._origins[f"/inputs/{id_}"] = origin
            self._shared[key] = id_
            return ref("inputs", id_)
        return ref("inputs", self._shared[key])

    def node(self, wanted: str, node_type: str, inputs: Json, origin: Path, **more: Any) -> str:
        """Add a node and return its id; inputs that are None are left out. `origins` may say where an input is from."""
        origins: dict[str, Path] = more.pop("origins", {})
        id_ = unique(wanted if _ID.fullmatch(wanted) else slug(wanted), self._nodes)
        given = {name: value for name, value in inputs.items() if value is not None}
        self._nodes[id_] = {"type": node_type, **more, "inputs": given}
        at = f"/nodes/{id_}"
        self._origins[at] = origin
        self._origins |= {f"{at}/inputs/{name}": path for name, path in origins.items()}
        return id_

    def output(self, wanted: str, value: Any, origin: Path) -> None:
        """Add an output of the workflow."""
        id_ = unique(slug(wanted), self._outputs)
        self._outputs[id_] = value
        self._origins[f"/outputs/{id_}"] = origin

    def replace(self, old: object, new: Any) -> None:
        """Put a value in the place of a stand-in, wherever a node's input is that very object."""
        for node in self._nodes.values():
            for name, value in node["inputs"].items():
                if value is old:
                    node["inputs"][name] = new

    def first(self, nodes: list[str]) -> None:
        """Move nodes to the beginning, where people look for them."""
        self._nodes = {id_: self._nodes[id_] for id_ in nodes} | self._nodes

    def document(self) -> Json:
        """Return the workflow."""
        found: Json = {"schema": SCHEMA, "name": self.name}
        parts = {"inputs": self._inputs, "nodes": self._nodes, "outputs": self._outputs}
        return found | {name: part for name, part in parts.items() if part or name == "nodes"}

    def origin(self, at: str) -> Path:
        """Return the path in the foreign document that a pointer into the workflow comes from, as closely as known."""
        while at and at not in self._origins:
            at = at.rpartition("/")[0]
        return self._origins[at] if at else ()

    def translated(self, mistake: Mistake) -> Mistake:
        """Say of a mistake in the workflow where in the foreign document it comes from."""
        return mistake.model_copy(update={"pointer": pointer(*self.origin(mistake.pointer))})
