"""The codes of mistakes, by what they are about. They never change their meaning; docs/mistakes.md is made of this."""

from collections.abc import Mapping
from typing import NamedTuple


class Code(NamedTuple):
    """What a code says; a warning keeps no workflow from being taken."""

    meaning: str
    warning: bool = False


CODES: Mapping[str, Mapping[str, Code]] = {
    "shape": {
        "wrong-type": Code("The value is of another JSON type than is wanted there."),
        "missing-key": Code("A key that must be there is not."),
        "unknown-key": Code("The key has no meaning there, or not for a node of this type."),
        "bad-value": Code("The value is not one of those allowed."),
        "bad-id": Code("An id is a small letter, then small letters, digits and `_`, 64 in all at most."),
        "reserved-id": Code("The id has a meaning of its own: `inputs item index carry`, words of CEL."),
        "bad-duration": Code('A duration is a number with its unit: `"500ms"`, `"60s"`, `"24h"`.'),
        "bad-number": Code("The number is not finite, or does not fit into 64 bits."),
        "bad-text": Code("The text holds half of a surrogate pair."),
    },
    "limits": {
        "too-large": Code("It has more bytes, items or parts than are allowed."),
        "too-deep": Code("Values or bodies are nested too deep."),
        "too-many-nodes": Code("The workflow has too many nodes, those of bodies and of what it calls included."),
        "too-many-calls": Code("It calls too many stored workflows, or too large ones."),
        "too-many-mistakes": Code("Only the first mistakes are told."),
    },
    "inputs": {
        "bad-schema": Code("This is no JSON Schema, or not one that can be used."),
        "bad-default": Code("The default does not fit its own schema."),
        "unknown-keyword": Code("JSON Schema has no such keyword, so it does nothing.", warning=True),
    },
    "nodes": {
        "unknown-type": Code("No worker has announced this node type."),
        "unknown-version": Code("There is the node type, but not in this version."),
        "unknown-port": Code("The node type has no such input."),
        "missing-input": Code("A required input is not given."),
        "unknown-queue": Code("The node type does not run on that queue."),
        "no-worker": Code("No worker serves the queue now; a run would wait for one.", warning=True),
    },
    "flows": {
        "missing-output": Code("The body does not give what the next iteration is to carry."),
        "unknown-workflow": Code("There is no stored workflow of that name and version."),
        "recursive-call": Code("Stored workflows call each other in a circle, or too deep."),
        "bad-workflow": Code("The workflow that is called cannot run here."),
    },
    "values": {
        "bad-literal": Code("The literal does not fit the JSON Schema of its port."),
        "type-mismatch": Code("Nothing that one end gives can be what the other wants."),
        "text-like-reference": Code(
            "The value is text that reads like a reference to what is there; as it stands it is only text.",
            warning=True,
        ),
        "unknown-model": Code("No worker has announced this model."),
        "handle-crosses": Code("A handle would have to leave the worker that holds it."),
        "secret-shown": Code("A secret would be stored or shown."),
    },
    "references": {
        "bad-reference": Code("This is no reference."),
        "unknown-marker": Code("A key begins with `$` and means nothing; `$literal` escapes."),
        "unknown-node": Code("There is no such node in this workflow or body."),
        "unknown-output": Code("The node gives nothing of that name, or its value has no such part."),
        "unknown-input": Code("The workflow or body has no such input."),
        "self-reference": Code("The node refers to itself."),
        "cycle": Code("Nodes wait for each other in a circle."),
        "bad-expression": Code("The expression is no CEL, or goes beyond its bounds."),
    },
    "a run's inputs": {
        "bad-input": Code("The value does not fit the input's schema."),
        "missing-input": Code("A required input is not given."),
        "unknown-input": Code("The workflow has no such input."),
    },
}
