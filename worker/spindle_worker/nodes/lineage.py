"""Finds the settings a picture was made with, as far as the workflow itself says them.

From a node, its `image` or `latents` references are followed back to the node with the denoise loop; that node's
literal inputs, and those that refer to inputs of the run, are its settings. What is computed on the way is not known.
"""

from collections.abc import Mapping
from typing import Any

_MAKERS = ("image.generate", "image.edit", "image.sample")
_WAY_BACK = ("image", "latents")
_SETTINGS = (
    "prompt",
    "negative_prompt",
    "steps",
    "guidance",
    "seed",
    "scheduler",
    "strength",
    "width",
    "height",
    "model",
)


def settings_of(workflow: Mapping[str, Any], inputs: Mapping[str, Any], node: str) -> dict[str, Any]:
    """Settings of the picture that `node` works on; only those that are known."""
    nodes = workflow.get("nodes", {})
    maker, seen = node, set[str]()
    while maker in nodes and maker not in seen:
        seen.add(maker)
        given = nodes[maker].get("inputs", {})
        if str(nodes[maker].get("type", "")).partition("@")[0] in _MAKERS:
            return _known(nodes, given, inputs)
        maker = next((_source(given[port]) for port in _WAY_BACK if port in given), "")
    return {}


def _known(nodes: Mapping[str, Any], given: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    if "conditioning" in given:
        given = nodes.get(_source(given["conditioning"]), {}).get("inputs", {}) | given
    found: dict[str, Any] = {}
    for name in _SETTINGS:
        value = given.get(name)
        if isinstance(value, Mapping) and set(value) == {"$from"}:
            source, _, rest = str(value["$from"]).partition(".")
            value = inputs.get(rest) if source == "inputs" else None
        if name == "model" and isinstance(value, Mapping):
            value = value.get("model")
        if isinstance(value, (str, int, float)):
            found[name] = value
    return found


def _source(reference: Any) -> str:
    """The node that a reference names first."""
    if isinstance(reference, Mapping):
        if "$from" in reference:
            return str(reference["$from"]).partition(".")[0]
        choices = reference.get("$first")
        if isinstance(choices, list) and choices:
            return _source(choices[0])
    return ""
