"""What a reference may see: the nodes of its level by id, with their types, and the inputs of the run or the body."""

from collections.abc import Collection, Mapping
from copy import copy
from functools import cached_property
from typing import Any, NamedTuple
from weakref import ref

from spindle_common.expressions import Expression
from spindle_control.compiler.catalog import Catalog, CompiledType
from spindle_control.compiler.checked import InputPort
from spindle_control.compiler.following import Following
from spindle_control.compiler.references import USUAL, NothingThere, Reference, follow, read_reference
from spindle_control.compiler.report import Report, Silence
from spindle_control.compiler.schemas import Validator, compiled
from spindle_control.compiler.shapes import Shape
from spindle_control.compiler.types import clash
from spindle_control.compiler.work import READING, REFERENCE

__all__ = ["Scope", "Shape"]


class Known(NamedTuple):
    """A reference that is right: the node, or "inputs"; the port, or the input's name; and what it gives."""

    owner: str
    name: str
    shape: Shape


class Scope:
    """Resolves references to what they give; those to nothing are noted in the report.

    `base` is the pointer of the level: "" for the workflow, else that of a body. `flows` are the types of the nodes
    that hold bodies or wait for people.
    """

    def __init__(
        self,
        nodes: Mapping[str, Mapping[str, Any]],
        inputs: Mapping[str, InputPort | None],
        catalog: Catalog,
        report: Report,
        *,
        base: str = "",
        flows: Mapping[str, CompiledType | None] | None = None,
    ) -> None:
        self.inputs, self.catalog, self.report, self.base = inputs, catalog, report, base
        known: dict[str, CompiledType | None] = {}
        for node in nodes.values():
            name = node.get("type")
            if isinstance(name, str) and name not in known:
                known[name] = catalog.compiled(name)
        self._compared: dict[tuple[int, int], tuple[Any, Any, str | None]] = {}
        self._validators: dict[int, tuple[Any, Validator | None]] = {}
        self._known: dict[str, Known] = {}
        self._queues: dict[str, str | None] = {}
        self.types = {id_: known.get(node.get("type", "")) for id_, node in nodes.items()} | dict(flows or {})
        this = ref(self)  # not itself: a circle of references would keep all of a check until the next full collection
        self.following = Following(nodes, lambda given: scope.look(given) if (scope := this()) else None, report.work)

    def shape(self, reference: Reference, reader: str | None = None) -> Shape | None:
        """Return what a reference gives; None if that is not known, or if it refers to nothing."""
        text = reference.text
        if reference.owner != reader and text in self._known:
            return self._known[text].shape
        if reference.owner == reader:
            detail, hint = f"`{reader}` refers to itself", "refer to another node, or to an input"
            self.report.add(reference.pointer, "self-reference", detail, hint)
            return None
        shape = self._input(reference) if reference.owner == "inputs" else self._output(reference)
        if shape is not None and not self.following.busy:
            self._known[text] = Known(reference.owner, reference.name, shape)
        return shape

    def known(self, text: Any) -> "Known | None":
        """Return what a reference gives, read and looked up once; None if there is anything to say of it."""
        if type(text) is not str:
            return None
        if text not in self._known and (reference := read_reference(text, "")) is not None:
            self.look(reference)
        return self._known.get(text)

    def check_text(self, value: Any, pointer: str) -> None:
        """Warn of text that reads like a reference to something that is there."""
        if type(value) is str and "." in value and len(value) <= USUAL and self.known(value) is not None:
            detail = f'"{value}" is only text here'
            self.report.warn(pointer, "text-like-reference", detail, f'to refer to it, write {{"$from": "{value}"}}')

    def look(self, reference: Reference) -> Shape | None:
        """Like `shape`, but what is wrong with the reference is not noted."""
        known = self._known.get(reference.text)
        return self._silent.shape(reference) if known is None else known.shape

    @cached_property
    def _silent(self) -> "Scope":
        scope = copy(self)
        scope.report = Silence(self.report.work)
        return scope

    def clash(self, given: Any, wanted: Any) -> str | None:
        """Compare two types, each pair once: the same ports are joined over and over."""
        if not given or not wanted:
            return None
        key = (id(given), id(wanted))
        if key not in self._compared:
            # Both are kept, so that no other object gets their identity.
            self._compared[key] = (given, wanted, clash(given, wanted, self._pay))
        return self._compared[key][2]

    def _pay(self, units: int) -> None:
        self.report.spend(units, "types")

    def validator(self, schema: Any) -> Validator | None:
        """Return the validator of a part of a port's schema; None if it cannot be compiled here."""
        if id(schema) not in self._validators:
            try:
                self._validators[id(schema)] = (schema, compiled(schema))
            except ValueError:
                self._validators[id(schema)] = (schema, None)
        return self._validators[id(schema)][1]

    def queue(self, node_type: CompiledType) -> str | None:
        """Return the queue on which nodes of a type run if they name none; None for light ones."""
        if node_type.name not in self._queues:
            offered = self.catalog.queues.get(node_type.name)
            self._queues[node_type.name] = self.catalog.choose(offered) if offered else None
        return self._queues[node_type.name]

    def expression(self, expression: Expression, pointer: str, reader: str | None = None) -> list[Reference]:
        """Check the variables of an expression, and return them."""
        self.report.spend(READING + REFERENCE * len(expression.roots), "expressions")
        pairs = [dotted.partition(".") for dotted in sorted(expression.roots)]
        roots = [Reference(owner, name, (), pointer) for owner, _, name in pairs]
        for root in roots:
            shape = self.shape(root, reader)
            if shape is not None and shape.handle:
                detail = f"`{root.text}` is a handle ({shape.handle}); expressions see values only"
                self.report.add(pointer, "handle-crosses", detail, "handles go from port to port with $from")
        return roots

    def knows_node(self, id_: str, pointer: str, reader: str | None) -> bool:
        """Whether there is such a node, other than its reader."""
        if id_ == reader:
            self.report.add(pointer, "self-reference", f"`{id_}` refers to itself", "leave it out")
        elif id_ not in self.types:
            self._no_node(id_, pointer)
        return id_ != reader and id_ in self.types

    def _no_node(self, id_: str, pointer: str) -> None:
        if id_ in self.inputs:
            hint: str | None = f"did you mean `inputs.{id_}`?"
        else:
            hint = self._meant(id_, self.types.keys(), "there is no node of a similar name")
        self.report.add(pointer, "unknown-node", f"there is no node `{id_}`", hint)

    def _meant(self, name: str, known: Collection[str], otherwise: str) -> str | None:
        """Return a hint; what is missing in a body often stands outside of it."""
        if not self.base:
            return self.report.meant(name, known, otherwise)
        near = self.report.nearest(name, known)
        return f"did you mean `{near}`?" if near else "a body sees its own nodes and inputs; give it more by `with`"

    def _input(self, reference: Reference) -> Shape | None:
        if reference.name not in self.inputs:
            hint = self._meant(reference.name, self.inputs.keys(), "declare it in `inputs` of the workflow")
            self.report.add(reference.pointer, "unknown-input", f"there is no input `{reference.name}`", hint)
            return None
        port = self.inputs[reference.name]
        return None if port is None else self._deeper(reference, port.schema)

    def _output(self, reference: Reference) -> Shape | None:
        if reference.owner not in self.types:
            self._no_node(reference.owner, reference.pointer)
            return None
        node_type = self.types[reference.owner]
        if node_type is None:
            return None
        port = node_type.outputs.get(reference.name)
        if port is None:
            hint = self.report.meant(reference.name, node_type.outputs.keys(), f"`{node_type.name}` gives nothing")
            detail = f"`{reference.owner}` ({node_type.name}) gives no `{reference.name}`"
            self.report.add(reference.pointer, "unknown-output", detail, hint)
            return None
        if port.handle and not reference.deeper:
            return Shape(f"{reference.owner}.{reference.name}", handle=port.handle)
        if port.handle:
            return self._deeper(reference, {"type": "string", "handle": port.handle})
        return self._deeper(reference, self.following.output(reference.owner, port))

    def _deeper(self, reference: Reference, schema: Any) -> Shape | None:
        if not reference.deeper:
            return Shape(reference.text, schema)
        self.report.spend(len(reference.deeper), "references")
        try:
            return Shape(reference.text, follow(schema, reference.deeper))
        except NothingThere as error:
            hint = self.report.meant(reference.deeper[-1], error.known)
            self.report.add(reference.pointer, "unknown-output", f"`{reference.text}`: {error}", hint)
            return None
