"""The compiler: a document is checked, its inputs are bound, and it is planned. All of it is pure.

checked = check(document, catalog, limits)      every mistake at once, as InvalidWorkflow
inputs = bind_inputs(checked, given)            every mistake at once, as InvalidInputs
plan(checked, catalog)                          tasks, in which nodes that belong together are fused
"""

from spindle_control.compiler.catalog import Catalog
from spindle_control.compiler.check import check
from spindle_control.compiler.checked import Checked, CheckedFlow, CheckedNode, InputPort
from spindle_control.compiler.inputs import bind_inputs, fitted, wrong_values
from spindle_control.compiler.limits import Limits
from spindle_control.compiler.plan import Plan, PlanFlow, PlanLevel, PlanTask, plan

__all__ = [
    "Catalog",
    "Checked",
    "CheckedFlow",
    "CheckedNode",
    "InputPort",
    "Limits",
    "Plan",
    "PlanFlow",
    "PlanLevel",
    "PlanTask",
    "bind_inputs",
    "check",
    "fitted",
    "plan",
    "wrong_values",
]
