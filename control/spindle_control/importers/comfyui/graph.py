"""A ComfyUI document as it stands: its nodes, their links, and the part of it that leads to an output.

A link is `[node id, output number]`; `{"__value__": [...]}` is a list that is none. Nodes from which no output can be
reached are left out, as ComfyUI does. A class nobody knows, at the end of a branch, may be an output: it counts as one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from spindle_control.importers.builder import Path
from spindle_control.importers.comfyui.classes import CLASSES
from spindle_control.importers.outcome import Findings, Json, shown

MAX_NODES = 2000
MAX_LINKS = 20_000
_TITLE = 200


@dataclass(frozen=True)
class Link:
    """The output of another node."""

    source: str
    output: int


@dataclass(frozen=True)
class Node:
    """A node; `path` leads to it in the document."""

    id: str
    class_type: str
    inputs: dict[str, Any]
    path: Path
    title: str = ""

    @property
    def links(self) -> Iterator[tuple[str, Link]]:
        """Inputs that are links."""
        return ((name, value) for name, value in self.inputs.items() if isinstance(value, Link))


@dataclass
class Graph:
    """The nodes that matter, each behind those it reads; `readers` are the nodes and inputs that read one."""

    nodes: dict[str, Node] = field(default_factory=dict)
    readers: dict[str, list[tuple[str, str]]] = field(default_factory=dict)

    def above(self, id_: str, name: str) -> Iterator[Node]:
        """Every node that the named input of this one comes from, the nearest first, along inputs of that name."""
        seen: set[str] = set()
        link = self.nodes[id_].inputs.get(name)
        while isinstance(link, Link) and link.source in self.nodes and link.source not in seen:
            seen.add(link.source)
            yield self.nodes[link.source]
            link = self.nodes[link.source].inputs.get(name)


def read(document: Json, findings: Findings, path: Path = ()) -> Graph:
    """Read a document; what is wrong with its shape goes to `findings`."""
    if len(document) > MAX_NODES:
        findings.error(path, "too-large", f"it has {len(document)} nodes; {MAX_NODES} are taken")
        return Graph()
    nodes: dict[str, Node] = {}
    for id_, body in document.items():
        node = _node(id_, body, (*path, id_), findings)
        if node is not None:
            nodes[id_] = node
    _check_links(nodes, document, findings)
    needed = _needed(nodes, findings, path)
    return _ordered(needed, findings)


def _node(id_: str, body: Any, path: Path, findings: Findings) -> Node | None:
    if not isinstance(body, dict):
        findings.error(path, "wrong-type", f"a node is an object, not {shown(body)}")
        return None
    class_type, inputs = body.get("class_type"), body.get("inputs", {})
    if not isinstance(class_type, str) or not class_type:
        findings.error(path, "missing-key", "a node needs `class_type`", "export the workflow in API format")
        return None
    if not isinstance(inputs, dict):
        findings.error((*path, "inputs"), "wrong-type", f"inputs are an object, not {shown(inputs)}")
        return None
    meta = body.get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else None
    read = {name: _value(value) for name, value in inputs.items()}
    return Node(id_, class_type, read, path, title[:_TITLE] if isinstance(title, str) else "")


def _value(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"__value__"}:
        return value["__value__"]
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int) and type(value[1]) is int:
        return Link(str(value[0]), value[1])
    return value


def _check_links(nodes: dict[str, Node], document: Json, findings: Findings) -> None:
    count = 0
    for node in nodes.values():
        for name, link in node.links:
            count += 1
            if count > MAX_LINKS:
                findings.error(node.path, "too-large", f"the document has more than {MAX_LINKS} links")
                return
            where = (*node.path, "inputs", name)
            if link.source not in document:
                findings.error(where, "bad-link", f"there is no node {shown(link.source)}")
            elif link.source in nodes:
                _check_output(nodes[link.source], link, where, findings)


def _check_output(source: Node, link: Link, where: Path, findings: Findings) -> None:
    known = CLASSES.get(source.class_type)
    if known is not None and not 0 <= link.output < len(known.outputs):
        gives = len(known.outputs)
        findings.error(where, "bad-link", f"{source.class_type} has {gives} outputs, and none is number {link.output}")


def _needed(nodes: dict[str, Node], findings: Findings, path: Path) -> dict[str, Node]:
    """Nodes from which an output can be reached; what is left out is noted."""
    read = {link.source for node in nodes.values() for _, link in node.links}
    ends = [id_ for id_, node in nodes.items() if _is_output(node, id_ in read)]
    if nodes and not ends:
        hint = "add SaveImage or PreviewImage to what it shall make"
        findings.error(path, "no-output", "no node of it is an output", hint)
    seen, waiting = set(ends), list(ends)
    while waiting:
        for _, link in nodes[waiting.pop()].links:
            if link.source in nodes and link.source not in seen:
                seen.add(link.source)
                waiting.append(link.source)
    for id_ in [id_ for id_ in nodes if ends and id_ not in seen]:
        detail = f"{shown(nodes[id_].class_type)[1:-1]} leads to no output and is left out, as ComfyUI does"
        findings.note(nodes[id_].path, "left-out", detail)
    return {id_: node for id_, node in nodes.items() if id_ in seen}


def _is_output(node: Node, is_read: bool) -> bool:
    known = CLASSES.get(node.class_type)
    return known.is_output if known is not None else not is_read


def _ordered(nodes: dict[str, Node], findings: Findings) -> Graph:
    """Lay nodes out behind those they read. What goes in circles is an error, and left out."""
    graph, open_ = Graph(), dict.fromkeys(nodes, 0)
    for node in nodes.values():
        for name, link in node.links:
            if link.source in nodes:
                graph.readers.setdefault(link.source, []).append((node.id, name))
                open_[node.id] += 1
    ready = [id_ for id_ in reversed(nodes) if not open_[id_]]
    while ready:
        id_ = ready.pop()
        graph.nodes[id_] = nodes[id_]
        for reader, _ in reversed(graph.readers.get(id_, ())):
            open_[reader] -= 1
            if not open_[reader]:
                ready.append(reader)
    circling = [nodes[id_] for id_ in nodes if id_ not in graph.nodes]
    if circling:
        names = ", ".join(node.id for node in circling[:8])
        findings.error(circling[0].path, "cycle", f"nodes wait for each other, among them {names[:200]}")
        graph.readers = {
            id_: [reader for reader in readers if reader[0] in graph.nodes]
            for id_, readers in graph.readers.items()
            if id_ in graph.nodes
        }
    return graph
