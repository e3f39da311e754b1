"""Whether a value fits a port: a literal is validated, a reference compared by type, a mixture gone into.

Where a reference does not fit, both ends are named: "`big.image` (image.resize@1) wants image/*, `say.audio` gives
audio/wav".
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from spindle_control.compiler.catalog import CompiledPort
from spindle_control.compiler.inputs import note_errors
from spindle_control.compiler.references import marker_of
from spindle_control.compiler.report import Report, below, shown
from spindle_control.compiler.scope import Scope, Shape
from spindle_control.compiler.types import describe, types_of

_CONTAINERS = {kind: {"type": kind} for kind in ("array", "object")}
_SECRET = Shape("$secret", {"type": "string"})


class PortCheck:
    """The check of one port of one node; `end` is node and port, `shapes` has what each pointer refers to."""

    def __init__(self, scope: Scope, end: tuple[str, str], port: CompiledPort, shapes: Mapping[str, Shape]) -> None:
        self._scope, self._names, self._port, self._shapes = scope, end, port, shapes
        self._report: Report = scope.report
        self.handles: dict[str, str] = {}

    @property
    def _end(self) -> str:
        node, port = self._names
        node_type = self._scope.types[node]
        return f"`{node}.{port}` ({node_type.name})" if node_type else f"`{node}.{port}`"

    def check(self, value: Any, pointer: str) -> None:
        """Check a value that holds references."""
        self._fit(value, self._port.schema, pointer, top=True)

    def check_literal(self, value: Any, pointer: str) -> None:
        """Check a value that holds none."""
        if self._port.handle:
            detail = f"{self._end} wants a handle ({self._port.handle}), and no literal can be one"
            self._report.add(pointer, "type-mismatch", detail, 'refer to a node: {"$from": "node.port"}')
        elif self._port.validator is not None and self._fits(value, pointer) and self._port.is_model:
            self._check_model(value, pointer)

    def _fits(self, value: Any, pointer: str) -> bool:
        validator = self._port.validator
        return validator is not None and note_errors(validator, value, pointer, "bad-literal", self._report)

    def _check_model(self, value: Any, pointer: str) -> None:
        name = value if isinstance(value, str) else value["model"]
        models = self._scope.catalog.models
        if name not in models:
            hint = self._report.meant(name, models.keys(), "no worker has announced a model")
            self._report.add(pointer, "unknown-model", f"there is no model `{shown(name)[1:-1]}`", hint)
        elif isinstance(value, dict) and value.get("digest", models[name].digest) != models[name].digest:
            detail = f"the model `{name}` is not the one of {shown(value['digest'])} any more"
            self._report.add(pointer, "unknown-model", detail, "leave the digest out to take the one that is here")

    def _fit(self, value: Any, schema: Any, pointer: str, *, top: bool = False) -> None:
        marker = marker_of(value)
        if marker == "$present":
            self._fit_present(value[marker], schema, f"{pointer}/{marker}")
        elif marker == "$first":
            self._fit_first(value[marker], schema, f"{pointer}/{marker}", top=top)
        elif marker == "$literal":
            self._fit_literal(value[marker], schema, f"{pointer}/{marker}")
        elif marker == "$secret":
            self._compare(_SECRET, schema, f"{pointer}/{marker}", top=top)
        elif marker is not None:
            self._fit_reference(f"{pointer}/{marker}", schema, top=top)
        elif isinstance(value, dict | list):
            self._fit_mixture(value, schema, pointer)
        else:
            self._fit_literal(value, schema, pointer)

    def _fit_reference(self, pointer: str, schema: Any, *, top: bool) -> None:
        shape = self._shapes.get(pointer)
        if shape is not None:
            self._compare(shape, schema, pointer, top=top)
            if shape.handle:
                self.handles.setdefault(shape.source.partition(".")[0], pointer)

    def _compare(self, shape: Shape, schema: Any, pointer: str, *, top: bool) -> None:
        wanted = self._port.handle if top else None
        if shape.handle and not top:
            detail = f"`{shape.source}` is a handle ({shape.handle}), which can only be the whole of a port"
            self._report.add(pointer, "handle-crosses", detail, "refer to it directly from the port")
        elif shape.handle != wanted:
            says = f"a handle ({wanted})" if wanted else describe(schema)
            hint = "a handle goes only into a port of the same kind"
            self._report.add(
                pointer, "type-mismatch", f"{self._end} wants {says}, `{shape.source}` gives {shape}", hint
            )
        elif not wanted and (reason := self._scope.clash(shape.schema, schema)):
            says = f"{self._end} wants {describe(schema)}, `{shape.source}` gives {shape}"
            detail = says if reason in f"{shape} is not {describe(schema)}" else f"{says}: {reason}"
            self._report.add(pointer, "type-mismatch", detail)

    def _fit_first(self, refs: Any, schema: Any, pointer: str, *, top: bool) -> None:
        for at, ref in enumerate(refs if isinstance(refs, list) else ()):
            self._fit(ref, schema, f"{pointer}/{at}", top=top)

    def _fit_present(self, refs: Any, schema: Any, pointer: str) -> None:
        if self._port.handle or self._scope.clash(_CONTAINERS["array"], schema):
            detail = f"{self._end} wants {self._port.handle or describe(schema)}, `$present` gives a list"
            self._report.add(pointer, "type-mismatch", detail, "use `$first` where one value is wanted")
            return
        items = schema.get("items", {}) if isinstance(schema, dict) else {}
        for at, ref in enumerate(refs if isinstance(refs, list) else ()):
            self._fit(ref, items, f"{pointer}/{at}")

    def _fit_literal(self, value: Any, schema: Any, pointer: str) -> None:
        if schema is self._port.schema:
            self.check_literal(value, pointer)
            return
        validator = self._scope.validator(schema)
        if validator is not None:
            note_errors(validator, value, pointer, "bad-literal", self._report)

    def _fit_mixture(self, value: Any, schema: Any, pointer: str) -> None:
        """Go into a literal that holds references, as far as its schema says what belongs where."""
        if isinstance(value, dict) and any(key.startswith("$") for key in value):
            return  # a slip of the pen, which `find` has told of
        kind = "array" if isinstance(value, list) else "object"
        if self._port.handle or self._scope.clash(_CONTAINERS[kind], schema):
            wanted = f"a handle ({self._port.handle})" if self._port.handle else describe(schema)
            detail = f"{self._end} wants {wanted}, not {'a list' if kind == 'array' else 'an object'}"
            self._report.add(pointer, "type-mismatch", detail)
            return
        schema = _branch(schema, kind)
        if isinstance(value, list):
            self._fit_size(len(value), schema, pointer)
            for at, item in enumerate(value):
                self._fit(item, schema.get("items", {}), f"{pointer}/{at}")
        else:
            self._fit_object(value, schema, pointer)

    def _fit_size(self, size: int, schema: dict[str, Any], pointer: str) -> None:
        reason = self._scope.clash(_list_of(size), schema)
        if reason:
            self._report.add(
                pointer, "bad-literal", f"it has {size} items; {self._end} wants {describe(schema)}: {reason}"
            )

    def _fit_object(self, value: dict[str, Any], schema: dict[str, Any], pointer: str) -> None:
        known, rest = schema.get("properties", {}), schema.get("additionalProperties", {})
        open_names = "patternProperties" in schema
        for name in schema.get("required", ()):
            if name not in value:
                self._report.add(pointer, "bad-literal", f"it lacks `{name}`", "add it")
        for name, item in value.items():
            where = below(pointer, name)
            if name in known:
                self._fit(item, known[name], where)
            elif rest is False and not open_names:
                hint = self._report.meant(name, known.keys())
                self._report.add(where, "bad-literal", f"{self._end} takes no `{shown(name)[1:-1]}`", hint)
            else:
                self._fit(item, {} if open_names else rest, where)


@lru_cache(maxsize=256)
def _list_of(size: int) -> dict[str, Any]:
    return {"type": "array", "minItems": size, "maxItems": size}


def _branch(schema: Any, kind: str) -> dict[str, Any]:
    """The one branch of a union that a list, or an object, can be; nothing is known if there are several."""
    if not isinstance(schema, dict):
        return {}
    for key in ("anyOf", "oneOf"):
        if key in schema:
            fitting = [branch for branch in schema[key] if kind in types_of(branch)]
            return _branch(fitting[0], kind) if len(fitting) == 1 else {}
    return {} if "allOf" in schema or "artifact" in schema else schema


def is_larger(value: Any, limit: int) -> bool:
    """Whether a value takes more than so many bytes of JSON. What is small by far is seen by its `repr`, which is
    quick; no character takes more than six bytes.
    """
    kind = type(value)
    if kind is not str and kind is not dict and kind is not list:
        return False
    length = len(value) if kind is str else len(repr(value))
    return length * 6 > limit and len(json.dumps(value, ensure_ascii=False).encode()) > limit
