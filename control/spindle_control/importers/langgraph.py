"""langgraph.v1 graphs: services become node types by a mapping, planes are checked against what workers offer.

    {"schema": "langgraph.v1", "workflowId": "…", "context": {…},
     "nodes": [{"id", "service", "plane": "node" | "python", "params": {…}, "input": {…}}],
     "edges": [{"from", "to", "kind": "data" | "control" | "normal"}]}

The mapping says for each service which node type it is, which of its params and inputs are which ports, and which of
its results are which outputs (`MAPPING_SCHEMA`; docs/langgraph.md):

    {"image.render": {"type": "image.generate@1", "params": {"text": "prompt"}, "outputs": {"picture": "image"},
                      "defaults": {"steps": 12}}}

`{"$from": "node.result"}` inside params or input refers to a node's result, `{"$context": "key"}` to the context, whose
keys become inputs of the workflow. A `data` or `normal` edge hands the results of one node to the ports of the other
that bear their names and are still free; if there is none it orders them, as a `control` edge does.
"""

from dataclasses import dataclass
from typing import Any

import jsonschema

from spindle_control.compiler import Catalog
from spindle_control.importers.builder import Builder, Path, ref
from spindle_control.importers.names import slug, unique
from spindle_control.importers.outcome import Findings, Json, Options, shown

SCHEMA = "langgraph.v1"
PLANES = ("node", "python")
KINDS = ("data", "control", "normal")
MAX_NODES, MAX_EDGES, MAX_DEPTH = 2000, 20_000, 32
_NAME = {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,63}$"}
_NAMES = {"type": "object", "additionalProperties": _NAME}
MAPPING_SCHEMA: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "ServiceMapping",
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "required": ["type"],
        "additionalProperties": False,
        "properties": {
            "type": {"type": "string", "pattern": "^[a-z][a-z0-9_]*(\\.[a-z][a-z0-9_]*)+@[1-9][0-9]{0,5}$"},
            "params": _NAMES | {"description": "Names of params and inputs -> ports; others keep their names."},
            "outputs": _NAMES | {"description": "Names of results -> ports; others keep their names."},
            "defaults": {"type": "object", "description": "Ports that get a value where the node gives none."},
        },
    },
}


@dataclass
class _Node:
    """A node of the graph with the type that its service becomes."""

    body: Json
    path: Path
    service: Json
    id: str
    inputs: Json
    after: list[str]


class _Translation:
    """One graph being translated."""

    def __init__(self, document: Json, options: Options, findings: Findings, catalog: Catalog | None) -> None:
        self._document, self._services, self._findings = document, options.services, findings
        self._catalog = catalog
        self._nodes: dict[str, _Node] = {}
        name = document.get("workflowId")
        self.builder = Builder(name[:120] if isinstance(name, str) and name else "langgraph")

    def run(self) -> None:
        """Translate everything; what is in the way goes to the findings."""
        if not _is_mapping(self._services, self._findings) or not self._has_shape():
            return
        for at, body in enumerate(self._document["nodes"]):
            self._read_node(at, body)
        for node in self._nodes.values():
            self._fill(node)
        for at, edge in enumerate(self._document.get("edges", ())):
            self._follow(at, edge)
        for node in self._nodes.values():
            self._emit(node)
        self._give_outputs()

    def _has_shape(self) -> bool:
        nodes, edges = self._document.get("nodes"), self._document.get("edges", [])
        if self._document.get("schema") != SCHEMA:
            given = shown(self._document.get("schema"))
            self._findings.error(("schema",), "unknown-dialect", f"only {SCHEMA} is known, not {given}")
        if not isinstance(nodes, list) or not nodes:
            self._findings.error(("nodes",), "missing-key", "a graph needs a list of nodes")
        elif len(nodes) > MAX_NODES:
            self._findings.error(("nodes",), "too-large", f"it has {len(nodes)} nodes; {MAX_NODES} are taken")
        if not isinstance(edges, list):
            self._findings.error(("edges",), "wrong-type", "edges are a list")
        elif len(edges) > MAX_EDGES:
            self._findings.error(("edges",), "too-large", f"it has {len(edges)} edges; {MAX_EDGES} are taken")
        if not isinstance(self._document.get("context", {}), dict):
            self._findings.error(("context",), "wrong-type", "the context is an object")
        return not self._findings.errors

    def _read_node(self, at: int, body: Any) -> None:
        path: Path = ("nodes", at)
        if not isinstance(body, dict) or not isinstance(body.get("id"), str) or not body["id"]:
            self._findings.error(path, "bad-id", "a node is an object with an `id`")
            return
        if body["id"] in self._nodes:
            self._findings.error((*path, "id"), "bad-id", f"another node is called {shown(body['id'])}")
            return
        name = body.get("service", body.get("task"))
        service = self._services.get(name) if isinstance(name, str) else None
        if service is None:
            hint = "name its node type in the mapping: --services FILE"
            self._findings.error((*path, "service"), "unknown-service", f"the mapping has no {shown(name)}", hint)
        else:
            self._check_plane(body, path, service["type"])
        taken = {node.id for node in self._nodes.values()}
        self._nodes[body["id"]] = _Node(body, path, service or {}, unique(slug(body["id"]), taken), {}, [])

    def _check_plane(self, body: Json, path: Path, node_type: str) -> None:
        plane = body.get("plane")
        if plane not in PLANES:
            self._findings.error((*path, "plane"), "wrong-plane", f"{shown(plane)} is no plane", "`node` or `python`")
            return
        if self._catalog is None or node_type not in self._catalog.types:
            return  # without a catalog nothing is known; of a type that is not there the check tells
        queues = self._catalog.queues.get(node_type, frozenset())
        worked = bool(queues - {"async"})
        if plane == "python" and not worked:
            detail = f"`{node_type}` is light work, which no worker offers on a queue of its own"
            self._findings.error((*path, "plane"), "wrong-plane", detail, "its plane is `node`")
        elif plane == "node" and worked:
            detail = f"`{node_type}` is done by workers, on {', '.join(sorted(queues))}"
            self._findings.error((*path, "plane"), "wrong-plane", detail, "its plane is `python`")

    def _fill(self, node: _Node) -> None:
        ports = node.service.get("params", {})
        node.inputs |= node.service.get("defaults", {})
        for part in ("params", "input"):
            given = node.body.get(part, {})
            if not isinstance(given, dict):
                self._findings.error((*node.path, part), "wrong-type", f"`{part}` is an object")
                continue
            for name, value in given.items():
                node.inputs[ports.get(name, name)] = self._value(value, (*node.path, part, name), node)

    def _value(self, value: Any, path: Path, node: _Node, depth: int = 0) -> Any:
        """A value with its references translated."""
        if depth > MAX_DEPTH:
            self._findings.error(path, "too-large", "it is nested too deeply")
            return None
        if isinstance(value, list):
            return [self._value(item, (*path, at), node, depth + 1) for at, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        if set(value) == {"$from"}:
            return self._reference(value["$from"], path)
        if set(value) == {"$context"}:
            return self._context(value["$context"], path)
        return {key: self._value(item, (*path, key), node, depth + 1) for key, item in value.items()}

    def _reference(self, text: Any, path: Path) -> Any:
        source, _, result = text.rpartition(".") if isinstance(text, str) else ("", "", "")
        other = self._nodes.get(source)
        if other is None or not result:
            self._findings.error(path, "bad-link", f"{shown(text)} names no node's result", "write node.result")
            return None
        return ref(other.id, other.service.get("outputs", {}).get(result, result))

    def _context(self, key: Any, path: Path) -> Any:
        context = self._document.get("context", {})
        if not isinstance(key, str) or key not in context:
            self._findings.error(path, "bad-link", f"the context has no {shown(key)}")
            return None
        spec = {"default": context[key], "description": f"`{key[:100]}` of the context."} | _type_of(context[key])
        return self.builder.input(slug(key, "input"), spec, ("context", key), shared=key)

    def _follow(self, at: int, edge: Any) -> None:
        path: Path = ("edges", at)
        if not isinstance(edge, dict):
            self._findings.error(path, "wrong-type", "an edge is an object")
            return
        ends = [self._end(edge, end, path) for end in ("from", "to")]
        kind = edge.get("kind", "normal")
        if kind not in KINDS:
            self._findings.error((*path, "kind"), "bad-literal", f"{shown(kind)} is no kind of edge", ", ".join(KINDS))
        elif ends[0] is not None and ends[1] is not None:
            self._join(ends[0], ends[1], kind)

    def _end(self, edge: Json, end: str, path: Path) -> _Node | None:
        name = edge.get(end)
        found = self._nodes.get(name) if isinstance(name, str) else None
        if found is None:
            self._findings.error((*path, end), "bad-link", f"there is no node {shown(name)}")
        return found

    def _join(self, source: _Node, target: _Node, kind: str) -> None:
        joined = self._hand_over(source, target) if kind != "control" else False
        if not joined and source.id not in target.after and not _refers(target.inputs, source.id):
            target.after.append(source.id)

    def _hand_over(self, source: _Node, target: _Node) -> bool:
        """Connect outputs to free inputs of the same name."""
        types = self._catalog.types if self._catalog else {}
        gives, takes = types.get(source.service.get("type", "")), types.get(target.service.get("type", ""))
        if gives is None or takes is None:
            return False
        shared = [name for name in gives.outputs if name in takes.inputs and name not in target.inputs]
        target.inputs |= {name: ref(source.id, name) for name in shared}
        return bool(shared)

    def _emit(self, node: _Node) -> None:
        parts: dict[str, Path] = {}
        for part in ("params", "input"):
            given = node.body.get(part)
            parts |= {name: (*node.path, part, name) for name in given} if isinstance(given, dict) else {}
        ports = node.service.get("params", {})
        origins = {ports.get(name, name): path for name, path in parts.items()}
        title = node.body.get("name")
        more: Json = {"title": title[:200]} if isinstance(title, str) and title else {}
        more |= {"after": node.after} if node.after else {}
        self.builder.node(node.id, node.service.get("type", ""), node.inputs, node.path, origins=origins, **more)

    def _give_outputs(self) -> None:
        """What the last nodes give that is no handle is what the workflow gives."""
        edges = [edge for edge in self._document.get("edges", ()) if isinstance(edge, dict)]
        read = {edge["from"] for edge in edges if isinstance(edge.get("from"), str)}
        for name, node in self._nodes.items():
            known = self._catalog.types.get(node.service.get("type", "")) if self._catalog else None
            if name in read or known is None or any(_refers(other.inputs, node.id) for other in self._nodes.values()):
                continue
            for port, about in known.outputs.items():
                if about.kind != "handle":
                    self.builder.output(f"{node.id}_{port}", ref(node.id, port), node.path)


def translate(
    document: Json, options: Options, findings: Findings, path: Path = (), catalog: Catalog | None = None
) -> Builder:
    """Translate a graph; what is in the way goes to `findings`."""
    del path  # such a document stands alone
    translation = _Translation(document, options, findings, catalog)
    translation.run()
    return translation.builder


def _is_mapping(services: Json, findings: Findings) -> bool:
    """Whether the mapping is one; what is wrong with it is told without a pointer, which would lead into the graph."""
    errors = sorted(jsonschema.Draft202012Validator(MAPPING_SCHEMA).iter_errors(services), key=str)
    for error in errors[:20]:
        where = "/".join(map(str, error.absolute_path))
        findings.error((), "bad-mapping", f"the mapping of services, at {where[:200] or 'its top'}: {error.message}")
    return not errors


def _type_of(value: Any) -> Json:
    names = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    name = names.get(type(value))
    return {"type": name} if name else {}


def _refers(value: Any, id_: str) -> bool:
    """Whether a value holds a reference to a node."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if str(each.get("$from", "")).startswith(f"{id_}."):
                return True
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
    return False
