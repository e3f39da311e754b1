"""JSON Schemas that code owns: settings of both planes and the manifest of the built-in nodes."""

import json


def derived_documents() -> dict[str, str]:
    """File name -> text, for every derived document."""
    return {}


def _text(document: object) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
