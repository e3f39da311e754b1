"""The check of a node of control flow: its keys, what it gives its body, and what its body must give it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spindle_common.durations import parse_duration
from spindle_control.compiler.checked import MISSING, CheckedFlow, InputPort, Level
from spindle_control.compiler.flow_types import FLOWS, INDEX, added, value_port
from spindle_control.compiler.inputs import check_value, read_spec
from spindle_control.compiler.limits import Limits
from spindle_control.compiler.ports import PortCheck, is_larger
from spindle_control.compiler.reading import Reader
from spindle_control.compiler.references import find, read_expression
from spindle_control.compiler.report import below, shown
from spindle_control.compiler.scope import Scope, Shape
from spindle_control.compiler.types import describe
from spindle_control.compiler.work import FLOW_PORT

_HINTS = dict.fromkeys(("retry", "timeout", "queue", "cache"), "put it on the nodes of the body") | {
    "inputs": "what the body is given stands in `with`",
    "with": "what it is given stands in `inputs`",
}
_GIVEN = {"flow.map@1": ("item", "index"), "flow.loop@1": ("index",)}


@dataclass(frozen=True)
class Body:
    """A level that was checked, with what is known of it from outside; `level` is None if it has mistakes."""

    level: Level | None
    inputs: Mapping[str, InputPort]
    outputs: Mapping[str, Shape]
    scope: Scope


class FlowCheck(Reader):
    """The check of one node that maps, loops, calls or waits for an answer."""

    def __init__(self, id_: str, node: Mapping[str, Any], scope: Scope, limits: Limits, body: Body | None) -> None:
        super().__init__(id_, node, scope, limits)
        self._type, self._body = str(node["type"]), body
        self._values: dict[str, Any] = {}
        self._settings: dict[str, Any] = {"kind": self._type}

    def run(self) -> tuple[dict[str, str], CheckedFlow | None]:
        """Check it. Returns what it waits for (with where that is said), and the node unless its body has mistakes."""
        self._check_keys()
        _CHECKS[self._type](self)
        self._check_when()
        after = tuple(self._check_after())
        own = self._scope.types[self._id]
        if own is None or (self._body is not None and self._body.level is None):
            return self._needs, None
        level = self._body.level if self._body else None
        when, on_error = self._node.get("when"), self._node.get("on_error", "fail")
        return self._needs, CheckedFlow(
            self._id, own, self._values, self._settings, level, when, self._needs, after, self._reads, on_error
        )

    def _check_keys(self) -> None:
        flow = FLOWS[self._type]
        for key in sorted(self._node.keys() - flow.keys):
            hint = _HINTS.get(key) if "body" in flow.required or key == "with" else None
            self._report.add(below(self._at, key), "unknown-key", f"`{self._type}` has no `{key}`", hint)
        for key in flow.required:
            if key not in self._node and not self._report.tells_of(f"{self._at}/{key}"):
                self._report.add(self._at, "missing-key", f"`{self._type}` wants `{key}`", f"add `{key}`")

    # What it is given ----------------------------------------------------------------------------------------------

    def _value(self, key: str, name: str, value: Any, schema: Any) -> None:
        """Check a value that is resolved when the node starts; `name` is its place in messages."""
        self._report.spend(FLOW_PORT, "values")
        pointer = f"{self._at}/{key}" if key == name else below(f"{self._at}/{key}", name)
        if self._is_plain(value):
            validator = self._scope.validator(schema) if schema else None
            if validator is None or validator.fits(value):
                self._scope.check_text(value, pointer)
                return
        if is_larger(value, self._limits.max_value_bytes):
            detail = f"it is larger than {self._limits.max_value_bytes} bytes"
            self._report.add(pointer, "too-large", detail, "upload it as an artifact")
            return
        found = find(value, pointer, self._report)
        if found.secret:
            hint = "leave it out" if key == "show" else "name it inside, at the node that uses it"
            self._report.add(pointer, "secret-shown", "a secret goes only into a node's input", hint)
            return
        shapes = {} if found.pure else self._resolve(found)
        check = PortCheck(self._scope, (self._id, name), value_port(name, schema), shapes)
        if found.pure:
            check.check_literal(value, pointer)
        else:
            check.check(value, pointer)

    def _give(self, key: str, *, but: tuple[str, ...] = ()) -> None:
        """Check what goes to the inputs of the body, or of the workflow that is called."""
        given = self._node.get(key, {})
        self._values[key] = given
        for name, value in given.items():
            port = self._body.inputs.get(name) if self._body else None
            pointer = below(f"{self._at}/{key}", name)
            if name in but:
                self._report.add(pointer, "unknown-input", f"`{name}` is given anyway", "leave it out")
            elif self._body and port is None:
                hint = self._report.meant(name, self._body.inputs.keys() - {*but}, "declare it in its `inputs`")
                detail = f"{self._inside} has no input `{shown(name)[1:-1]}`"
                self._report.add(pointer, "unknown-input", detail, hint)
            self._value(key, name, value, port.schema if port else {})

    @property
    def _inside(self) -> str:
        return "the body" if "body" in self._node else f"`{shown(self._node.get('workflow_ref', ''))[1:-1]}`"

    def _check_index(self) -> None:
        """An `index` that the body declares takes whole numbers."""
        port = self._body.inputs.get("index") if self._body else None
        if port is not None and (reason := self._scope.clash(INDEX, port.schema)):
            self._report.add(f"{self._at}/body/inputs/index", "type-mismatch", f"`index` is a whole number: {reason}")

    def _check_given(self, *keys: str) -> None:
        """Note the inputs of the body that it needs and nothing gives."""
        given = {name for key in keys for name in self._node.get(key, {})} | {*_GIVEN.get(self._type, ())}
        last = keys[-1]
        at = f"{self._at}/{last}" if last in self._node else self._at
        for name, port in self._body.inputs.items() if self._body else ():
            if port.required and name not in given:
                what = f", {describe(port.schema)}" if port.schema else ""
                detail = f"the input `{name}` of what `{self._id}` runs is not given{what}"
                self._report.add(at, "missing-input", detail, f"add it to `{last}`")

    # One by one ----------------------------------------------------------------------------------------------------

    def check_map(self) -> None:
        """`over` is a list whose items the body takes."""
        item = self._body.inputs["item"].schema if self._body and "item" in self._body.inputs else {}
        if "over" in self._node:
            self._values["over"] = self._node["over"]
            schema = {"type": "array", "maxItems": self._limits.max_items} | ({"items": item} if item else {})
            self._value("over", "over", self._node["over"], schema)
        self._give("with", but=_GIVEN[self._type])
        self._check_given("with")
        self._check_index()
        self._settings["concurrency"] = self._node.get("concurrency", 16)
        self._settings["on_item_error"] = self._node.get("on_item_error", "fail")

    def check_loop(self) -> None:
        """What is carried is both an input and an output of the body, of the same type."""
        self._give("carry", but=_GIVEN[self._type])
        self._give("with", but=_GIVEN[self._type])
        for name in self._node.get("with", {}).keys() & self._node.get("carry", {}).keys():
            self._report.add(below(f"{self._at}/with", name), "unknown-input", f"`{name}` is carried", "give it once")
        self._check_given("with", "carry")
        self._check_index()
        self._settings["max_iterations"] = self._node.get("max_iterations", 1)
        if self._body is not None:
            self._check_carried(self._body)
        self._check_until()

    def _check_carried(self, body: Body) -> None:
        at = f"{self._at}/body/outputs"
        for name in body.outputs.keys() & added(self._type).keys():
            self._report.add(below(at, name), "reserved-id", f"the loop itself gives `{name}`", "choose another name")
        for name in self._node.get("carry", {}):
            port, shape = body.inputs.get(name), body.outputs.get(name)
            if shape is None:
                hint = f"add `{name}` to the body's outputs"
                where = at if "outputs" in self._node["body"] else f"{self._at}/body"
                self._report.add(where, "missing-output", f"the body gives no `{name}` for the next iteration", hint)
            elif port is not None and (reason := self._scope.clash(shape.schema, port.schema)):
                detail = (
                    f"`{name}` of the next iteration wants {describe(port.schema)}, the body gives {shape}: {reason}"
                )
                self._report.add(below(at, name), "type-mismatch", detail)

    def _check_until(self) -> None:
        """It sees what stands in the body."""
        if "until" not in self._node:
            return
        pointer = f"{self._at}/until"
        expression = read_expression(self._node["until"], pointer, self._report)
        if expression is not None and self._body is not None:
            self._body.scope.expression(expression, pointer)
            self._settings["until"] = self._node["until"]

    def check_call(self) -> None:
        """Its inputs are those of the workflow that it calls."""
        self._give("inputs")
        self._check_given("inputs")
        self._settings["workflow_ref"] = self._node.get("workflow_ref", "")

    def check_approve(self) -> None:
        """The answer is a JSON Schema, which the default fits."""
        self._values["show"] = self._node.get("show", {})
        for name, value in self._node.get("show", {}).items():
            self._value("show", name, value, {})
        port = read_spec("answer", self._node.get("answer", {}), f"{self._at}/answer", self._report)
        self._settings["answer"] = {} if port is None else port.schema
        if "deadline" in self._node:
            self._settings["deadline"] = parse_duration(self._node["deadline"])
        if "default" in self._node:
            self._settings["default"] = self._node["default"]
            if "deadline" not in self._node:
                detail, hint = "nothing would ever take the default", "add a `deadline`"
                self._report.add(f"{self._at}/default", "bad-value", detail, hint)
            if port is not None and self._node["default"] is not MISSING:
                check_value(port, self._node["default"], f"{self._at}/default", "bad-default", self._report)


_CHECKS = {
    "flow.map@1": FlowCheck.check_map,
    "flow.loop@1": FlowCheck.check_loop,
    "flow.call@1": FlowCheck.check_call,
    "flow.approve@1": FlowCheck.check_approve,
}
