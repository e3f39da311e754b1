"""The graph that ComfyUI keeps in a PNG: the API format under the keyword `prompt`, the editor's under `workflow`."""

import json

from spindle_common.problems import InvalidRequest, InvalidWorkflow
from spindle_control.compiler import Catalog
from spindle_control.importers.importing import import_document
from spindle_control.importers.outcome import Findings, Imported, Options
from spindle_control.png import BadPng, text_of

_HINT = "save it again from ComfyUI, or export the workflow in API format"


def import_png(
    content: bytes,
    options: Options = Options(),  # noqa: B008 - it is frozen
    catalog: Catalog | None = None,
) -> Imported:
    """Make a workflow of the graph in a PNG. Raises as `graph_in_png` and `import_document` do."""
    return import_document(graph_in_png(content), "comfyui", options, catalog)


def graph_in_png(content: bytes) -> object:
    """Return the graph in API format that a PNG keeps.

    Raises:
        InvalidRequest: the file is no PNG, is damaged, or what it keeps is not JSON.
        InvalidWorkflow: it holds no graph, or only the editor's.

    """
    try:
        prompt, editors = text_of(content, "prompt"), text_of(content, "workflow")
    except BadPng as error:
        raise InvalidRequest(f"The picture cannot be read: {error}.") from None
    if prompt is None:
        raise _refusal(editors is not None)
    try:
        # ComfyUI notes NaN beside nodes that always run anew, which JSON does not have
        return json.loads(prompt, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        raise InvalidRequest("What the picture keeps under `prompt` is not JSON.") from None


def _refusal(has_editors: bool) -> InvalidWorkflow:
    findings = Findings()
    if has_editors:
        detail = "the picture keeps the editor's graph (`workflow`) only, in which values have no names, not `prompt`"
        findings.error((), "ui-format", detail, _HINT)
    else:
        findings.error((), "no-output", "the picture keeps no ComfyUI graph: it has no text under `prompt`", _HINT)
    return findings.refusal("the picture")
