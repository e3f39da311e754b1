"""Paths of nodes and what stands there: `vars[3].image` is the node `image` in the body of `vars`, for its fourth item.

order  vars < vars[0] < vars[0].image < vars[9] < vars[10] < vars2
node   documents are walked by ids: into a node's body, and through a call into the stored workflow
"""

import re
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]
_PART = re.compile(r"\[([0-9]{1,9})\]|([^.\[\]]+)")
_PATH = re.compile(r"[a-z][a-z0-9_]{0,63}(\[[0-9]{1,9}\])?(\.[a-z][a-z0-9_]{0,63}(\[[0-9]{1,9}\])?)*")
REPEATED = frozenset({"flow.map@1", "flow.loop@1"})
"""What has instances."""
_NUMBER = re.compile(r"\[([0-9]{1,9})\]")


def is_path(text: object) -> bool:
    """Whether a text can be a node's path."""
    return isinstance(text, str) and len(text) <= 2000 and _PATH.fullmatch(text) is not None


def order(path: str) -> str:
    """Return what sorts paths so that what is inside a node comes right behind it, items by their number."""
    return _NUMBER.sub(lambda found: f"\x01{found[1]:0>9}", path).replace(".", "\x02")


def ids_of(path: str) -> list[str]:
    """The ids along a path, without the numbers of instances."""
    return [id_ for _, id_ in _PART.findall(path) if id_]


def split(path: str) -> tuple[str, str, int | None]:
    """Return a path's prefix, its id and, of an instance, its number: `a[1].b[2]` is ("a[1].", "b", 2)."""
    at = path.rfind(".") + 1
    id_, bracket, number = path[at:].partition("[")
    return path[:at], id_, int(number.rstrip("]")) if bracket else None


def outer_of(prefix: str) -> str | None:
    """The instance, or the call, inside which a prefix's level stands; None for the workflow's own."""
    return prefix[:-1] or None


def is_under(path: str, under: str) -> bool:
    """Whether a path is a node's, or that of something inside it."""
    return path == under or path.startswith((f"{under}.", f"{under}["))


class Nodes:
    """The nodes of a document, those in bodies and in workflows that it calls; `library` is by "name@version"."""

    def __init__(self, document: Json, library: Mapping[str, Json]) -> None:
        self._document, self._library = document, library

    def level(self, prefix: str) -> Json | None:
        """Return the workflow or body whose nodes have this prefix."""
        level: Json | None = self._document
        for id_ in ids_of(prefix):
            node = (level or {}).get("nodes", {}).get(id_)
            level = None if node is None else self.inside(node)
        return level

    def inside(self, node: Json) -> Json | None:
        """Return what a node runs: its body, or the workflow that it calls."""
        found = node.get("body") or self._library.get(node.get("workflow_ref", ""))
        return found if isinstance(found, dict) else None

    def at(self, path: str) -> Json | None:
        """Return a node as it is written; an instance stands for its node. None where no run can have such a path."""
        return None if self.misplaced(path) is not None else self._find(path)

    def title(self, path: str) -> str | None:
        """Return a node's title; its path may leave out the numbers of instances, as in `vars.image`."""
        return (self._find(path) or {}).get("title")

    def misplaced(self, path: str) -> str | None:
        """Return why no run can have such a path, or None: it may have it."""
        for each in (*(path[:at] for at, char in enumerate(path) if char == "."), path):
            node = self._find(each)
            if node is None:
                return f"there is no node `{each}`"
            repeats, number = node.get("type") in REPEATED, split(each)[2]
            if number is not None and not repeats:
                return f"`{each}` is no instance: {node.get('type')} runs what it has but once"
            if number is None and repeats and each != path:
                return f"`{path}` names no item of `{each}`: write `{each}[0]`"
        return None

    def _find(self, path: str) -> Json | None:
        prefix, id_, _ = split(path)
        node = (self.level(prefix) or {}).get("nodes", {}).get(id_)
        return node if isinstance(node, dict) else None
