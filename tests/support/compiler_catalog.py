"""A catalog such as workers would announce, for tests of the compiler."""

from typing import Any

from spindle_common.contracts import ModelInfo, NodeType, Port
from spindle_control.compiler import Catalog

TINY = "sha256:" + "1" * 64
MODEL = {"x-spindle": "model", "anyOf": [{"type": "string"}, {"type": "object", "required": ["model"]}]}


def value(**schema: Any) -> Port:
    return Port(kind="value", schema_=schema)


def optional(port: Port) -> Port:
    return port.model_copy(update={"required": False})


def image(media: str = "image/*") -> Port:
    return Port(kind="artifact", media_type=media)


def images(**bounds: Any) -> Port:
    schema = {"type": "array", "items": {"artifact": "image/*"}, **bounds}
    return Port(kind="artifact", media_type="image/*", schema_=schema)


def handle(kind: str) -> Port:
    return Port(kind="handle", handle=kind)


def node_type(name: str, inputs: dict[str, Port], outputs: dict[str, Port], **more: Any) -> NodeType:
    return NodeType(type=name, inputs=inputs, outputs=outputs, **more)


PNG = {"image": image("image/png")}
TEXT = value(type="string", maxLength=2000)
SCALE = optional(value(anyOf=[{"type": "number", "exclusiveMinimum": 0, "maximum": 8}, {"type": "null"}]))
MODEL_PORT = optional(value(**MODEL))
ANY_INPUTS = "^in[a-z0-9_]*$"

TYPES: list[tuple[NodeType, set[str]]] = [
    (
        node_type(
            "text.template@1",
            {"template": TEXT, "values": optional(value(type="object"))},
            {"text": value(type="string")},
        ),
        set(),
    ),
    (node_type("text.join@1", {"parts": value(type="array", items={"type": "string"})}, {"text": TEXT}), set()),
    (node_type("value.random@1", {}, {"value": value(type="number")}, deterministic=False), set()),
    (
        node_type(
            "image.generate@1",
            {
                "prompt": TEXT,
                "seed": optional(value(type="integer", minimum=0)),
                "steps": optional(value(type="integer", minimum=1, maximum=100)),
                "model": MODEL_PORT,
            },
            PNG | {"seed": value(type="integer")},
        ),
        {"gpu", "cpu"},
    ),
    (node_type("image.resize@1", {"image": image(), "scale": SCALE}, PNG, timeout="60s"), {"cpu"}),
    (node_type("image.grid@1", {"images": images(minItems=1)}, PNG), {"cpu"}),
    (node_type("tts.say@1", {"text": TEXT}, {"wav": image("audio/wav")}), {"cpu"}),
    (node_type("model.load@1", {"model": value(**MODEL)}, {"model": value(**MODEL)}), {"gpu"}),
    (
        node_type("text.encode@1", {"prompt": TEXT, "model": MODEL_PORT}, {"conditioning": handle("conditioning")}),
        {"gpu"},
    ),
    (
        node_type(
            "image.sample@1",
            {"conditioning": handle("conditioning"), "latents": optional(handle("latents")), "model": MODEL_PORT},
            {"latents": handle("latents"), "seed": value(type="integer")},
        ),
        {"gpu"},
    ),
    (node_type("image.decode@1", {"latents": handle("latents")}, PNG), {"gpu"}),
    (node_type("image.encode@1", {"image": image()}, {"latents": handle("latents")}), {"gpu"}),
    (
        node_type(
            "test.noop@1",
            {"value": optional(Port(kind="value"))},
            {"value": Port(kind="value")},
            open_inputs=ANY_INPUTS,
        ),
        {"async"},
    ),
    (node_type("test.noop@2", {}, {"value": Port(kind="value")}, open_inputs=ANY_INPUTS), {"cpu"}),
]


def catalog(live: tuple[str, ...] = ("gpu", "cpu", "async"), **changes: Any) -> Catalog:
    parts: dict[str, Any] = {
        "types": {found.type: found for found, _ in TYPES},
        "queues": {found.type: frozenset(queues) for found, queues in TYPES},
        "live_queues": frozenset(live),
        "models": {
            "tiny": ModelInfo(name="tiny", digest=TINY),
            "large": ModelInfo(name="large", digest="sha256:" + "2" * 64),
        },
        "default_model": "tiny",
    }
    return Catalog(**(parts | changes))


def workflow(nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"schema": "spindle.workflow/v1", "nodes": nodes, **more}


def noop(*needs: str, **more: Any) -> dict[str, Any]:
    """A node that needs others' values."""
    return {
        "type": "test.noop@1",
        "inputs": {f"in{at}": {"$from": f"{id_}.value"} for at, id_ in enumerate(needs)},
        **more,
    }


POSTER = workflow(
    {
        "prompt": {
            "type": "text.template@1",
            "inputs": {"template": "{subject}", "values": {"subject": {"$from": "inputs.subject"}}},
        },
        "image": {
            "type": "image.generate@1",
            "inputs": {"prompt": {"$from": "prompt.text"}, "seed": {"$expr": "inputs.seed + 1"}, "steps": 20},
        },
        "big": {
            "type": "image.resize@1",
            "when": "inputs.seed > 0",
            "inputs": {"image": {"$from": "image.image"}, "scale": 2},
            "retry": {"max_attempts": 3, "backoff": "500ms"},
            "timeout": "90s",
        },
    },
    name="poster",
    inputs={
        "subject": {"type": "string", "maxLength": 200, "default": "a large red circle on a blue background"},
        "seed": {"type": "integer", "default": 7},
        "photo": {"artifact": "image/*", "optional": True},
    },
    outputs={"image": {"$first": [{"$from": "big.image"}, {"$from": "image.image"}]}},
)
