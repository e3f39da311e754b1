"""Checking a document: every mistake at once, each with a JSON Pointer, a stable code and a hint.

    Checked = check(document, catalog, limits)     or InvalidWorkflow, whose `errors` lists the mistakes

The shape comes first (`structure`), then inputs, nodes with their ports, outputs, circles, and last, in a document
that is otherwise right, whether its handles can stay where they are (`fusion`). A mistake in one place never hides
those in another. The codes, which never change their meaning:

    shape      wrong-type missing-key unknown-key bad-value bad-id reserved-id bad-duration bad-number bad-text
    limits     too-large too-deep too-many-nodes too-many-mistakes
    inputs     bad-schema bad-default            warning: unknown-keyword
    nodes      unknown-type unknown-version unknown-port missing-input unknown-queue     warning: no-worker
    values     bad-literal type-mismatch unknown-model handle-crosses secret-shown
    references bad-reference unknown-marker unknown-node unknown-output unknown-input self-reference cycle
               bad-expression
    binding    bad-input missing-input unknown-input
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from spindle_common.problems import InvalidWorkflow
from spindle_common.problems import pointer as to_pointer
from spindle_control.compiler.catalog import Catalog
from spindle_control.compiler.checked import Checked, CheckedNode
from spindle_control.compiler.fusion import HandleCrosses, group
from spindle_control.compiler.inputs import read_specs
from spindle_control.compiler.limits import Limits
from spindle_control.compiler.nodes import NodeCheck
from spindle_control.compiler.order import circle_in, components, topological
from spindle_control.compiler.plan import crossing, vertices
from spindle_control.compiler.ports import is_larger
from spindle_control.compiler.references import find
from spindle_control.compiler.report import Report, ReportFull
from spindle_control.compiler.scope import Scope
from spindle_control.compiler.structure import Draft, read


def check(document: object, catalog: Catalog, limits: Limits = Limits()) -> Checked:  # noqa: B008 - it is frozen
    """Check a document.

    Raises:
        InvalidWorkflow: with every mistake.

    """
    report, checked = Report(), None
    with suppress(ReportFull):
        draft = read(document, limits, report)
        checked = None if draft is None else _check_meaning(draft, catalog, limits, report)
    if checked is None or report.errors:
        count = len(report.errors)
        detail = f"the workflow has {count} {'mistake' if count == 1 else 'mistakes'}"
        raise InvalidWorkflow(detail, errors=(*report.errors, *report.warnings))
    return checked


def _check_meaning(draft: Draft, catalog: Catalog, limits: Limits, report: Report) -> Checked | None:
    inputs = read_specs(draft.inputs, report)
    scope = Scope(draft.nodes, inputs, catalog, report)
    needs, nodes = {}, {}
    for id_, node in draft.nodes.items():
        needs[id_], checked = NodeCheck(id_, node, scope, limits).run()
        if checked is not None:
            nodes[id_] = checked
    for name, value in draft.outputs.items():
        _check_output(f"/outputs{to_pointer(name)}", value, scope, limits)
    order = _check_circles(needs, report)
    if report.errors:
        return None
    bound = {name: port for name, port in inputs.items() if port is not None}
    in_order = {id_: nodes[id_] for id_ in order}
    on_failure = draft.document.get("on_failure", "continue")
    _check_handles(in_order, catalog, report)
    return Checked(draft.document, in_order, bound, draft.outputs, on_failure, report.warnings)


def _check_handles(nodes: Mapping[str, CheckedNode], catalog: Catalog, report: Report) -> None:
    """Note where a handle would have to leave the worker that holds it."""
    if not any(node.handles for node in nodes.values()):
        return
    try:
        group(vertices(nodes, catalog))
    except HandleCrosses as error:
        pointer, detail, hint = crossing(error, nodes)
        report.add(pointer, "handle-crosses", detail, hint)


def _check_output(pointer: str, value: Any, scope: Scope, limits: Limits) -> None:
    report = scope.report
    if is_larger(value, limits.max_value_bytes):
        report.add(pointer, "too-large", f"it is larger than {limits.max_value_bytes} bytes")
        return
    found = find(value, pointer, report)
    if found.secret:
        report.add(pointer, "secret-shown", "a secret cannot be an output", "leave it out")
    for expression, where in found.expressions:
        scope.expression(expression, where)
    for reference in found.references:
        shape = scope.shape(reference)
        if shape is not None and shape.handle:
            detail = f"`{shape.source}` is a handle ({shape.handle}), which lives in a worker's memory only"
            report.add(reference.pointer, "handle-crosses", detail, "decode it first, and refer to what that gives")


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
