"""Workflows of other programs, made into ours: pure functions, without torch, network or files.

    imported = import_document(document, options=Options(models={"v1-5.safetensors": "sd15"}), catalog=catalog)
    imported.workflow        a workflow that the compiler takes
    imported.notes           what its author should know

Dialects: `comfyui` (API format, also inside {"prompt": …}) and `langgraph` (langgraph.v1). What is in the way comes
all at once as InvalidWorkflow, whose `errors` point into the foreign document.
"""

from spindle_control.importers.importing import DIALECTS, dialect_of, import_document
from spindle_control.importers.outcome import Imported, Options
from spindle_control.importers.pictures import graph_in_png, import_png

__all__ = ["DIALECTS", "Imported", "Options", "dialect_of", "graph_in_png", "import_document", "import_png"]
