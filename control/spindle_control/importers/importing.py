"""From a foreign document to a checked workflow: recognise, translate, check, tell mistakes in its author's terms."""

from collections.abc import Callable, Mapping
from contextlib import suppress

from spindle_common.problems import InvalidWorkflow
from spindle_control.compiler import Catalog, Limits, check
from spindle_control.importers import comfyui, langgraph
from spindle_control.importers.builder import Builder, Path
from spindle_control.importers.outcome import Findings, Imported, Json, Options, TooMuchFound

Translate = Callable[[Json, Options, Findings, Path, Catalog | None], Builder]
DIALECTS: Mapping[str, Translate] = {"comfyui": comfyui.translate, "langgraph": langgraph.translate}
_WHAT = {"comfyui": "the ComfyUI workflow", "langgraph": "the langgraph.v1 graph"}
_UI_KEYS = {"nodes", "links", "last_node_id"}
_SUITED = {"comfyui": "Workflow > Export (API) in ComfyUI gives that"}


def dialect_of(document: object) -> str | None:
    """Recognise a document by its shape."""
    if not isinstance(document, dict):
        return None
    if str(document.get("schema", "")).startswith("langgraph."):
        return "langgraph"
    inner = document.get("prompt") if isinstance(document.get("prompt"), dict) else document
    if isinstance(inner, dict) and any(isinstance(node, dict) and "class_type" in node for node in inner.values()):
        return "comfyui"
    return "comfyui" if len(_UI_KEYS & document.keys()) > 1 else None


def import_document(
    document: object,
    dialect: str | None = None,
    options: Options = Options(),  # noqa: B008 - it is frozen
    catalog: Catalog | None = None,
    limits: Limits = Limits(),  # noqa: B008 - it is frozen
) -> Imported:
    """Make a workflow of a foreign document, and check it against a catalog if one is given.

    Raises:
        InvalidWorkflow: with everything that is in the way.

    """
    findings, found = Findings(), dialect or dialect_of(document) or ""
    with suppress(TooMuchFound, RecursionError):
        if found not in DIALECTS or not isinstance(document, dict):
            hint = "dialects are: " + ", ".join(DIALECTS)
            findings.error((), "unknown-dialect", "this is no document of a dialect that is known", hint)
        elif _is_readable(found, document, findings):
            inner, path = _inner(found, document)
            builder = DIALECTS[found](inner, options, findings, path, catalog)
            workflow = None if findings.errors else _checked(builder, catalog, limits, findings)
            if workflow is not None:
                return Imported(workflow, findings.notes, found)
    if not findings.errors:
        findings.error((), "too-large", "it is nested too deeply, or too much is wrong with it")
    raise findings.refusal(_WHAT.get(found, "the document"))


def _is_readable(dialect: str, document: Json, findings: Findings) -> bool:
    """Refuse ComfyUI's other format, in which an editor keeps its graph; values there have no names."""
    inner, path = _inner(dialect, document)
    if dialect == "comfyui" and len(_UI_KEYS & inner.keys()) > 1:
        detail = "this is the editor's graph, in which values have no names; the API format is needed"
        findings.error(path, "ui-format", detail, _SUITED["comfyui"])
        return False
    return True


def _inner(dialect: str, document: Json) -> tuple[Json, Path]:
    prompt = document.get("prompt")
    if dialect == "comfyui" and isinstance(prompt, dict) and "class_type" not in prompt:
        return prompt, ("prompt",)
    return document, ()


def _checked(builder: Builder, catalog: Catalog | None, limits: Limits, findings: Findings) -> Json | None:
    """Check what was built. Models that no worker has now are no mistake: one may have them when it runs."""
    workflow = builder.document()
    if catalog is None:
        findings.note((), "unchecked", "it was not checked against what workers offer", "`spindle validate` does that")
        return workflow
    try:
        check(workflow, catalog, limits)
    except InvalidWorkflow as problem:
        for mistake in problem.errors:
            findings.take(builder.translated(mistake))
        return None if findings.errors else workflow
    _note_models(builder, workflow, catalog, findings)
    return workflow


def _note_models(builder: Builder, workflow: Json, catalog: Catalog, findings: Findings) -> None:
    """Say which models no worker offers now."""
    for id_, spec in workflow.get("inputs", {}).items():
        name = spec.get("default")
        if id_.partition("_")[0] == "model" and isinstance(name, str) and name not in catalog.models:
            detail = f"no worker offers the model `{name}` now"
            hint = f"there are: {', '.join(sorted(catalog.models)) or 'none'}; run it with -i {id_}=NAME"
            findings.note(builder.origin(f"/inputs/{id_}"), "unknown-model", detail, hint)
