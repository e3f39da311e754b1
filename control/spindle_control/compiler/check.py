"""Checking a document: every mistake at once, each with a JSON Pointer, a stable code and a hint.

    Checked = check(document, catalog, limits)     or InvalidWorkflow, whose `errors` lists the mistakes

The shape comes first (`structure`), then level by level (`levels`), the innermost first: inputs, nodes with their
ports, outputs, circles, and last, in a level that is otherwise right, whether its handles can stay where they are
(`fusion`). A mistake in one place never hides those in another.
`codes` says what each code means, once and for ever.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from spindle_common.problems import InvalidWorkflow
from spindle_control.compiler.catalog import Catalog
from spindle_control.compiler.checked import Checked
from spindle_control.compiler.levels import Levels
from spindle_control.compiler.limits import Limits
from spindle_control.compiler.report import Report, ReportFull
from spindle_control.compiler.structure import Draft, read

Library = Mapping[str, dict[str, Any]]
_NOTHING: Library = {}


def check(
    document: object,
    catalog: Catalog,
    limits: Limits = Limits(),  # noqa: B008 - it is frozen
    library: Library = _NOTHING,
) -> Checked:
    """Check a document; `library` holds the workflows that it calls, by "name@version", and those that they call.

    Raises:
        InvalidWorkflow: with every mistake.

    """
    report, checked = Report(), None
    with suppress(ReportFull):
        draft = read(document, limits, report)
        checked = None if draft is None else _check_meaning(draft, Levels(catalog, limits, report, library))
    if checked is None or report.count:
        errors = report.errors
        detail = f"the workflow has {len(errors)} {'mistake' if len(errors) == 1 else 'mistakes'}"
        raise InvalidWorkflow(detail, errors=(*errors, *report.warnings))
    return checked


def _check_meaning(draft: Draft, levels: Levels) -> Checked | None:
    body = levels.check(draft)
    if body is None or body.level is None:
        return None
    if body.level.count > levels.limits.max_nodes:
        detail = (
            f"it has {body.level.count} nodes with the workflows that it calls; {levels.limits.max_nodes} are allowed"
        )
        levels.report.add("/nodes", "too-many-nodes", detail)
    on_failure = draft.document.get("on_failure", "continue")
    return Checked(draft.document, body.level, on_failure, levels.report.warnings)
