"""Ports whose type follows another's: `{"x-type-of": PATH}` in a port's schema, or anywhere inside it.

    "items"        the type of what the node's own input `items` is given
    "items/*"      of an item of it
    "items/name"   of its property (a number: of that position)
    "lists/{}/*"   an object with the keys of `lists`, each followed further: here the types of their items

So `list.best.item` is image/png where `list.best.items` is given a list of image/png, and may go into a port that wants
image/*. What is not known becomes `{}`. A chain of such nodes is followed without recursion: whatever a type needs is
found first, then the type is tried again. In a circle, which is a mistake of its own, the last one is not known.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from spindle_control.compiler.catalog import CompiledPort
from spindle_control.compiler.marks import Mark, Marks
from spindle_control.compiler.references import NothingThere, Reference, follow
from spindle_control.compiler.shapes import MAX_DEPTH, MAX_PARTS, UNKNOWN, Budget, Shape, schema_of, union, widened
from spindle_control.compiler.types import types_of
from spindle_control.compiler.work import Work

_MAX_BRANCHES = 8
_WORK = 30_000
_ANNOTATIONS = {"title", "description", "default"}
_Key = tuple[str, CompiledPort]


class Following:
    """The types of the followers among some nodes' ports; `look` says what a reference gives, and notes nothing.

    `work` is what the document may cost.
    """

    def __init__(
        self,
        nodes: Mapping[str, Mapping[str, Any]],
        look: Callable[[Reference], Shape | None],
        work: Work | None = None,
    ) -> None:
        self._nodes, self._look = nodes, look
        self._known: dict[_Key, Any] = {}
        self._wanted: dict[_Key, None] | None = None
        self._budget = Budget(_WORK, work)
        self._same: dict[tuple[int, ...], tuple[Any, list[Any], Any]] = {}
        self._wide: dict[tuple[int, CompiledPort], tuple[Any, CompiledPort]] = {}

    @property
    def busy(self) -> bool:
        """Whether a type is being looked for: what is given meanwhile may not be known yet."""
        return self._wanted is not None

    def output(self, id_: str, port: CompiledPort) -> Any:
        """Return the type of a node's output."""
        return self._schema((id_, port)) if port.follows else port.schema

    def input(self, id_: str, port: CompiledPort) -> CompiledPort:
        """Return a node's input with the type that it has there; it takes more than the very values it follows."""
        if not port.follows:
            return port
        schema = self._schema((id_, port))
        found = (id(schema), port)
        if found not in self._wide:
            cheap = self._budget.spend(self._budget.size(schema)[0])
            self._wide[found] = (schema, port.typed(widened(schema, budget=self._budget) if cheap else {}))
        return self._wide[found][1]

    def _schema(self, key: _Key) -> Any:
        if key in self._known:
            return self._known[key]
        if self._wanted is not None:
            self._wanted[key] = None
            return {}
        self._find(key)
        return self._known[key]

    def _find(self, first: _Key) -> None:
        waiting, begun = [first], set()
        while waiting:
            key = waiting[-1]
            schema, wanted = self._try(key)
            begun.add(key)
            new = [other for other in wanted if other not in begun]
            if new:
                waiting.extend(new)
            else:
                self._known.setdefault(key, schema)
                waiting.pop()

    def _try(self, key: _Key) -> tuple[Any, Sequence[_Key]]:
        """Return a port's type, as far as what it needs is known, and what it needs that is not."""
        if key in self._known:
            return self._known[key], ()
        self._wanted = {}
        try:
            return self._followed(*key), tuple(self._wanted)
        finally:
            self._wanted = None

    def _followed(self, id_: str, port: CompiledPort) -> Any:
        if isinstance(port.follows, Mark):
            return self._type_of(id_, port.follows.path)
        return self._built(id_, port.schema, port.follows)

    def _built(self, id_: str, schema: Any, marks: Marks) -> Any:
        """Put types where the marks are, but none so large that the whole would grow on and on."""
        if isinstance(marks, Mark):
            found = self._type_of(id_, marks.path)
            if self._wanted:
                return {}  # what is built now is not kept
            parts, depth = self._budget.size(found)
            return found if parts < MAX_PARTS and depth < MAX_DEPTH else UNKNOWN
        inside = [self._built(id_, schema[key], inner) for key, inner in marks.items()]
        if self._wanted:
            return {}
        # The same parts in the same place are the same type: chains of such nodes compare it once.
        same = (id(schema), *map(id, inside))
        if same not in self._same:
            self._same[same] = (schema, inside, self._put_together(schema, [*marks], inside))
        return self._same[same][2]

    def _put_together(self, schema: Any, keys: Sequence[str | int], parts: Sequence[Any]) -> Any:
        built: Any = [*schema] if isinstance(schema, list) else dict(schema)
        for key, part in zip(keys, parts, strict=True):
            built[key] = part
        if isinstance(built, dict) and built.keys() - _ANNOTATIONS == {"anyOf"}:
            return union(built["anyOf"], self._budget)
        return built

    def _type_of(self, id_: str, path: Sequence[str]) -> Any:
        name, *steps = path
        given = self._nodes[id_].get("inputs", {})
        if name not in given:
            return {}
        shape = schema_of(given[name], self._look, budget=self._budget)
        return {} if shape.handle else self._walk(shape.schema, steps) if steps else shape.schema

    def _walk(self, schema: Any, steps: Sequence[str]) -> Any:
        for at, step in enumerate(steps):
            if step == "{}":
                return self._each(schema, steps[at + 1 :])
            part = self._part(schema, step)
            schema = {} if part is None else part
        return schema

    def _part(self, schema: Any, step: str) -> Any:
        """Return the type of a part; None if there is no such part, `{}` if it is not known."""
        if not isinstance(schema, dict) or "allOf" in schema or "$ref" in schema:
            return {}
        branches = schema.get("anyOf") or schema.get("oneOf")
        if branches:
            if len(branches) > _MAX_BRANCHES:
                return {}
            parts = [part for part in (self._part(branch, step) for branch in branches) if part is not None]
            return union(parts, self._budget) if parts else None
        if step == "*":
            return self._item(schema)
        try:
            return follow(schema, (step,))
        except NothingThere:
            return None

    def _item(self, schema: dict[str, Any]) -> Any:
        kinds = types_of(schema) & {"array", "object"}
        if not kinds or "artifact" in schema or schema.get("maxItems") == 0:
            return None
        if kinds == {"array"}:
            parts, rest = schema.get("prefixItems", ()), schema.get("items", {})
        elif kinds == {"object"} and "patternProperties" not in schema:
            parts, rest = schema.get("properties", {}).values(), schema.get("additionalProperties", {})
        else:
            return {}
        if not parts:
            return None if rest is False else rest
        return union([*parts] if rest is False else [*parts, rest], self._budget)

    def _each(self, schema: Any, steps: Sequence[str]) -> dict[str, Any]:
        """Return an object type with the same keys, the type of each followed further."""
        if not isinstance(schema, dict) or types_of(schema) & {"array", "object"} != {"object"} or "artifact" in schema:
            return {"type": "object"}
        built = {
            "type": "object",
            "properties": {name: self._walk(part, steps) for name, part in schema.get("properties", {}).items()},
            "required": schema.get("required", []),
        }
        rest = schema.get("additionalProperties", {})
        if "patternProperties" in schema or rest is True or rest == {}:
            return built
        return {**built, "additionalProperties": rest and self._walk(rest, steps)}
