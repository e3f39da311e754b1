"""JSON Schemas that code owns: settings of both planes and the manifest entries of the built-in nodes."""

import json

from spindle_common.contracts import NodeType
from spindle_control.settings import ControlSettings
from spindle_worker.catalog import offered_queue
from spindle_worker.nodes import builtin_nodes
from spindle_worker.settings import WorkerSettings


def derived_documents() -> dict[str, str]:
    """File name -> text, for every derived document."""
    nodes = [t.model_dump(mode="json", by_alias=True) for t in sorted(builtin_manifest(), key=lambda t: t.type)]
    return {
        "control-settings.schema.json": _text(ControlSettings.model_json_schema()),
        "worker-settings.schema.json": _text(WorkerSettings.model_json_schema()),
        "builtin-nodes.json": _text(nodes),
    }


def builtin_manifest() -> list[NodeType]:
    """The built-in node types as a worker with a device announces them, family by family."""
    return [spec.node_type(offered_queue(spec, device=True)) for spec in builtin_nodes()]


def _text(document: object) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
