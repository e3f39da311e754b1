"""A level: the workflow, a body inside a node, or a workflow that is called. Each is closed, so each is checked alone.

    bodies and calls (what they give) -> inputs -> nodes -> outputs -> circles -> handles

What a body gives is known before the nodes around it are looked at; what it is given is checked by its node.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from spindle_common.problems import pointer as to_pointer
from spindle_control.compiler.catalog import Catalog
from spindle_control.compiler.checked import CheckedFlow, CheckedNode, InputPort, Level
from spindle_control.compiler.flow_types import FLOWS, INDEX, FlowType, flow_type
from spindle_control.compiler.flows import Body, FlowCheck
from spindle_control.compiler.fusion import HandleCrosses, group
from spindle_control.compiler.inputs import read_specs
from spindle_control.compiler.limits import Limits
from spindle_control.compiler.nodes import NodeCheck
from spindle_control.compiler.order import circle_in, components, topological
from spindle_control.compiler.plan import crossing, vertices
from spindle_control.compiler.ports import is_larger
from spindle_control.compiler.references import Reference, find
from spindle_control.compiler.report import Report, ReportFull, below
from spindle_control.compiler.schemas import compiled
from spindle_control.compiler.scope import Scope, Shape
from spindle_control.compiler.shapes import Budget, schema_of
from spindle_control.compiler.structure import Draft, read
from spindle_control.compiler.work import LEVEL

_ITEM = {"item": InputPort("item", {}, compiled({}), optional=True)}
_INDEX = {"index": InputPort("index", INDEX, compiled(INDEX), optional=True)}
_NOTHING: Mapping[str, InputPort] = {}


@dataclass
class Levels:
    """Checks levels inside levels; `library` holds what is called, by "name@version"."""

    catalog: Catalog
    limits: Limits
    report: Report
    library: Mapping[str, dict[str, Any]]
    calling: tuple[str, ...] = ()
    called: dict[str, Body | None] = field(default_factory=dict)

    def check(self, draft: Draft, given: Mapping[str, InputPort] = _NOTHING) -> Body | None:
        """Check a level; None if it has mistakes. `given`: inputs that it has without declaring them."""
        self.report.spend(LEVEL, "bodies")
        bodies = {id_: self._inside(id_, node, draft) for id_, node in draft.nodes.items() if node.get("type") in FLOWS}
        inputs = {**given} | read_specs(draft.inputs, self.report, draft.base)
        flows = {id_: self._type(draft.nodes[id_], body) for id_, body in bodies.items()}
        scope = Scope(draft.nodes, inputs, self.catalog, self.report, base=draft.base, flows=flows)
        needs, nodes = self._nodes(draft, scope, bodies)
        outputs = {name: self._output(draft, name, value, scope) for name, value in draft.outputs.items()}
        order = _check_circles(needs, self.report)
        ports = {name: port for name, port in inputs.items() if port is not None}
        if self.report.count:  # wherever they are: what is planned is all of it or nothing
            return Body(None, ports, outputs, scope)
        in_order = {id_: nodes[id_] for id_ in order}
        self._check_handles(in_order, draft.base)
        count = len(in_order) + sum(body.level.count for body in bodies.values() if body and body.level)
        return Body(Level(in_order, ports, draft.outputs, count), ports, outputs, scope)

    def _nodes(
        self, draft: Draft, scope: Scope, bodies: Mapping[str, Body | None]
    ) -> tuple[dict[str, dict[str, str]], dict[str, CheckedNode | CheckedFlow]]:
        needs: dict[str, dict[str, str]] = {}
        nodes: dict[str, CheckedNode | CheckedFlow] = {}
        for id_, node in draft.nodes.items():
            checked: CheckedNode | CheckedFlow | None
            if id_ in bodies:
                needs[id_], checked = FlowCheck(id_, node, scope, self.limits, bodies[id_]).run()
            else:
                needs[id_], checked = NodeCheck(id_, node, scope, self.limits).run()
            if checked is not None:
                nodes[id_] = checked
        return needs, nodes

    # What is inside a node -----------------------------------------------------------------------------------------

    def _inside(self, id_: str, node: Mapping[str, Any], draft: Draft) -> Body | None:
        if node["type"] == "flow.call@1":
            return self._call(node.get("workflow_ref"), below(f"{draft.base}/nodes", id_))
        body = draft.bodies.get(id_)
        if body is None or "body" not in FLOWS[node["type"]].keys:
            return None
        return self.check(body, _INDEX | _ITEM if node["type"] == "flow.map@1" else _INDEX)

    def _call(self, name: Any, pointer: str) -> Body | None:
        """Check a workflow that is called, once however often it is; None if there is none that is right."""
        if not isinstance(name, str):
            return None
        if name in self.calling or len(self.calling) >= self.limits.max_bodies:
            way = " → ".join([*self.calling[-4:], name])
            self.report.add(
                f"{pointer}/workflow_ref", "recursive-call", f"workflows call each other: {way}", "a workflow must end"
            )
            return None
        if name not in self.library:
            hint = self.report.meant(name, self.library.keys(), "`spindle workflows` lists those that are stored")
            self.report.add(f"{pointer}/workflow_ref", "unknown-workflow", f"there is no workflow `{name}`", hint)
            return None
        if name not in self.called:
            self.called[name] = self._called(name, pointer)
        return self.called[name]

    def _called(self, name: str, pointer: str) -> Body | None:
        report = Report(self.report.work)
        inner = replace(self, report=report, calling=(*self.calling, name))
        body = None
        with suppress(ReportFull):
            draft = read(self.library[name], self.limits, report)
            body = None if draft is None else inner.check(draft)
        if report.count or body is None:
            first = report.errors[0]
            detail = f"`{name}` cannot run here: at {first.pointer}, {first.detail}"
            code = first.code if first.code == "recursive-call" else "bad-workflow"
            self.report.add(f"{pointer}/workflow_ref", code, detail, "store a new version of it that is right")
            return None
        return body

    def _type(self, node: Mapping[str, Any], body: Body | None) -> FlowType | None:
        """What a node of control flow gives; None, so that nothing is said of it, if its body is not known."""
        unknown = body is None and node["type"] != "flow.approve@1"
        return None if unknown else flow_type(node["type"], node, body.outputs if body else {})

    # The rest of a level -------------------------------------------------------------------------------------------

    def _output(self, draft: Draft, name: str, value: Any, scope: Scope) -> Shape:
        pointer = f"{draft.base}/outputs{to_pointer(name)}"
        _check_output(pointer, value, scope, self.limits)
        return schema_of(value, scope.look, pointer, Budget(work=self.report.work))

    def _check_handles(self, nodes: Mapping[str, CheckedNode | CheckedFlow], base: str) -> None:
        """Note where a handle would have to leave the worker that holds it."""
        if not any(isinstance(node, CheckedNode) and node.handles for node in nodes.values()):
            return
        try:
            group(vertices(nodes, self.catalog))
        except HandleCrosses as error:
            pointer, detail, hint = crossing(error, nodes)
            self.report.add(pointer, "handle-crosses", detail, hint)


def _check_output(pointer: str, value: Any, scope: Scope, limits: Limits) -> None:
    report = scope.report
    if is_larger(value, limits.max_value_bytes):
        report.add(pointer, "too-large", f"it is larger than {limits.max_value_bytes} bytes")
        return
    scope.check_text(value, pointer)
    found = find(value, pointer, report)
    if found.secret:
        report.add(pointer, "secret-shown", "a secret cannot be an output", "leave it out")
    for expression, where in found.expressions:
        scope.expression(expression, where)
    for reference in found.references:
        _check_shown(reference, scope)


def _check_shown(reference: Reference, scope: Scope) -> None:
    shape = scope.shape(reference)
    if shape is not None and shape.handle:
        detail = f"`{shape.source}` is a handle ({shape.handle}), which lives in a worker's memory only"
        hint = "decode it first, and refer to what that gives"
        scope.report.add(reference.pointer, "handle-crosses", detail, hint)


def _check_circles(needs: Mapping[str, Mapping[str, str]], report: Report) -> list[str]:
    """Note each knot of nodes that wait for each other, naming one circle of it; return the order of the others."""
    ids = list(needs)
    number = {id_: at for at, id_ in enumerate(ids)}
    edges = [[number[other] for other in needs[id_]] for id_ in ids]
    order = topological(edges)
    if len(order) < len(ids):
        for component in components(edges):
            if len(component) > 1:
                circle = [ids[at] for at in circle_in(component, edges)]
                _note_circle(circle, needs, report)
    return [ids[at] for at in order]


def _note_circle(circle: list[str], needs: Mapping[str, Mapping[str, str]], report: Report) -> None:
    names = [*circle, circle[0]]
    path = " → ".join(names if len(names) <= 12 else [*names[:6], "…", *names[-5:]])
    detail = f"nodes wait for each other: {path}"
    report.add(needs[circle[0]][names[1]], "cycle", detail, "remove one of these references")
