"""What the checks of all nodes share: finding what a node refers to, and noting what it waits for and reads."""

from collections.abc import Mapping
from typing import Any

from spindle_control.compiler.limits import Limits
from spindle_control.compiler.references import Found, Reference, read_expression
from spindle_control.compiler.report import below
from spindle_control.compiler.scope import Scope, Shape
from spindle_control.compiler.work import AFTER

_SHORT = 4096
_HOLDING = (dict, list, str)


class Reader:
    """A node that refers to others of its level."""

    def __init__(self, id_: str, node: Mapping[str, Any], scope: Scope, limits: Limits) -> None:
        self._id, self._node, self._scope, self._limits = id_, node, scope, limits
        self._report = scope.report
        self._at = below(f"{scope.base}/nodes", id_)
        self._needs: dict[str, str] = {}
        self._reads: set[str] = set()

    @staticmethod
    def _is_plain(value: Any) -> bool:
        """Whether a value is a literal in which nothing else can stand, and no long text."""
        return type(value) not in _HOLDING or (type(value) is str and len(value) <= _SHORT)

    def _resolve(self, found: Found) -> dict[str, Shape]:
        """Return what the references of a value give, by their pointers, and wait for them."""
        for expression, where in found.expressions:
            self._wait_for(self._scope.expression(expression, where, self._id))
        self._wait_for(found.references)
        shapes = {}
        for reference in found.references:
            shape = self._scope.shape(reference, self._id)
            if shape is not None:
                shapes[reference.pointer] = shape
        return shapes

    def _wait_for(self, references: list[Reference]) -> None:
        for reference in references:
            if reference.owner == "inputs":
                self._reads.add(reference.name)
            elif reference.owner in self._scope.types and reference.owner != self._id:
                self._needs.setdefault(reference.owner, reference.pointer)

    def _check_when(self) -> None:
        if "when" in self._node:
            self._read(self._node["when"], f"{self._at}/when")

    def _read(self, text: Any, pointer: str) -> None:
        """Check an expression, and wait for what it refers to."""
        expression = read_expression(text, pointer, self._report)
        if expression is not None:
            self._wait_for(self._scope.expression(expression, pointer, self._id))

    def _check_after(self) -> list[str]:
        known = []
        after = self._node.get("after", ())
        self._report.spend(AFTER * len(after), "references")
        for at, id_ in enumerate(after):
            pointer = f"{self._at}/after/{at}"
            if self._scope.knows_node(id_, pointer, self._id):
                self._needs.setdefault(id_, pointer)
                known.append(id_)
        return list(dict.fromkeys(known))
