"""The node SDK: a node is a typed function, and a decorator that only describes it.

    class ShoutInputs(Inputs):
        text: str = Field(max_length=1000)

    class ShoutOutputs(Outputs):
        text: str

    @node("text.shout@1")
    async def shout(inputs: ShoutInputs, ctx: Context) -> ShoutOutputs:
        return ShoutOutputs(text=inputs.text.upper())

A field's annotation makes the port: plain types are values, `Image` and `ImageList` are artifacts, `Latents` and
`Conditioning` handles (objects that stay in this worker's memory), `ModelRef` a model. A `def` does native work and
runs off the event loop; an `async def` is light and runs on it. Nothing here imports torch.
"""

import builtins
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticCustomError, core_schema

from spindle_common.contracts import Artifact, NodeType, Port
from spindle_worker.context import Context

__all__ = [
    "Artifact",
    "Conditioning",
    "Context",
    "Field",
    "Handle",
    "Image",
    "ImageList",
    "Inputs",
    "Latents",
    "Media",
    "ModelRef",
    "NodeSpec",
    "Outputs",
    "TypeOf",
    "node",
]

_NODE_TYPE = re.compile(r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+@[1-9][0-9]{0,5}$")


class Inputs(BaseModel):
    """Base of a node's inputs; unknown ports are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class OpenInputs(Inputs):
    """Base of inputs that also take ports named by `open_inputs`; they are found in `model_extra`."""

    model_config = ConfigDict(extra="allow", frozen=True, arbitrary_types_allowed=True)


class Outputs(BaseModel):
    """Base of a node's outputs."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


@dataclass(frozen=True)
class Media:
    """Marks an artifact port with the media type, or range, that it takes or gives; anything else is refused."""

    media_type: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Check the media type once the artifact, or list of them, has been read."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, value: Any) -> Any:
        for at, artifact in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(artifact, Artifact) and not self._takes(artifact.media_type):
                about = {"wanted": self.media_type, "given": artifact.media_type, "at": at}
                which = "item {at} is {given}" if isinstance(value, list) else "this is {given}"
                raise PydanticCustomError("media_type", f"{which}, and {{wanted}} is wanted", about)
        return value

    def _takes(self, media_type: str) -> bool:
        parts = zip(self.media_type.split("/", 1), media_type.lower().split("/", 1), strict=False)
        return all(wanted in ("*", given) for wanted, given in parts)


@dataclass(frozen=True)
class TypeOf:
    """Marks a value, or a part of one, whose type is that of the node's own input `path` as the workflow fills it.

    "items" is the same type, "items/*" that of an item, "items/name" that of a property, and "lists/{}/*" an object
    with the keys of `lists`, each holding an item of what stands under it: `list[Annotated[Any, TypeOf("items/*")]]`.
    """

    path: str

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: Any) -> dict[str, Any]:
        """Say whose type it is; the value itself may be any."""
        return {"x-type-of": self.path}


@dataclass(frozen=True)
class Handle:
    """Marks a port whose value is an object in the worker's memory; only ports of the same kind join."""

    kind: str


@dataclass(frozen=True)
class Model:
    """Marks a value port that names a model; it arrives as a recipe {model, digest, adapters}."""


Image = Annotated[Artifact, Media("image/*")]
ImageList = Annotated[list[Artifact], Media("image/*")]
Latents = Annotated[Any, Handle("latents")]
Conditioning = Annotated[Any, Handle("conditioning")]
_MODEL_SCHEMA: dict[str, Any] = {
    "x-spindle": "model",
    "anyOf": [
        {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$"},
        {
            "type": "object",
            "required": ["model"],
            "properties": {
                "model": {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$"},
                "digest": {"type": "string"},
                "adapters": {"type": "array"},
            },
            "additionalProperties": False,
        },
    ],
}
ModelRef = Annotated[dict[str, Any], Model()]


@dataclass(frozen=True)
class NodeSpec:
    """What the decorator knows of a node; `function` is untouched by it."""

    type: str
    function: Callable[..., Any]
    inputs: "builtins.type[Inputs]"
    outputs: "builtins.type[Outputs]"
    queue: str | None = None
    title: str = ""
    timeout: str | None = None
    deterministic: bool = True
    cacheable: bool = True
    open_inputs: str | None = None
    handles: frozenset[str] = field(default_factory=frozenset)

    @property
    def native(self) -> bool:
        """Whether the function does native work, off the event loop."""
        return not inspect.iscoroutinefunction(self.function)

    def node_type(self, queue: str | None) -> NodeType:
        """Describe it for the manifest of a worker that runs it on `queue`."""
        return NodeType(
            type=self.type,
            title=self.title,
            description=inspect.getdoc(self.function) or "",
            queue=queue,
            inputs=ports(self.inputs),
            outputs=ports(self.outputs),
            open_inputs=self.open_inputs,
            deterministic=self.deterministic,
            cacheable=self.cacheable and self.deterministic,
            timeout=self.timeout,
        )


F = TypeVar("F", bound=Callable[..., Any])


def node(node_type: str, *, queue: str | None = None, title: str = "", **options: Any) -> Callable[[F], F]:
    """Describe a function as a node type; the description is put beside it as `.spec`.

    `queue` is "gpu" (served on `cpu` by a worker without a device), "cpu", "async", or None for a light node that
    joins its consumers' tasks. `options`: timeout, deterministic, cacheable, open_inputs.

    Raises:
        TypeError: the name or the function's annotations do not make a node.

    """
    if not _NODE_TYPE.match(node_type):
        raise TypeError(f"{node_type!r} is no node type: it looks like family.verb@1")

    def describe(function: F) -> F:
        hints = get_type_hints(function, include_extras=True)
        inputs, outputs = hints.get("inputs"), hints.get("return")
        if not (inspect.isclass(inputs) and issubclass(inputs, Inputs)):
            raise TypeError(f"{node_type}: its first parameter must be `inputs`, typed by a subclass of Inputs")
        if not (inspect.isclass(outputs) and issubclass(outputs, Outputs)):
            raise TypeError(f"{node_type}: it must return a subclass of Outputs")
        handles = frozenset(name for name, port in ports(outputs).items() if port.kind == "handle")
        function.spec = NodeSpec(  # type: ignore[attr-defined]
            node_type, function, inputs, outputs, queue=queue, title=title, handles=handles, **options
        )
        return function

    return describe


def ports(model: type[BaseModel]) -> dict[str, Port]:
    """Read the ports off a model's fields."""
    schema = model.model_json_schema(mode="validation", schema_generator=_PortSchema)
    properties, shared = schema.get("properties", {}), schema.get("$defs", {})
    return {name: _port(info, _inline(properties.get(name, {}), shared)) for name, info in model.model_fields.items()}


def _port(info: FieldInfo, schema: dict[str, Any]) -> Port:
    about: dict[str, Any] = {"required": info.is_required(), "description": info.description or ""}
    for mark in marks_of(info):
        if isinstance(mark, Handle):
            return Port(kind="handle", handle=mark.kind, **about)
        if isinstance(mark, Model):
            extra = {"default": schema["default"]} if "default" in schema else {}
            return Port(kind="value", schema_=_MODEL_SCHEMA | extra, **about)
        if isinstance(mark, Media):
            media = {"artifact": mark.media_type}
            many = {"type": "array", "items": media, **_list_bounds(schema)} if _is_list(info.annotation) else {}
            return Port(kind="artifact", media_type=mark.media_type, schema_=many, **about)
    return Port(kind="value", schema_=schema, **about)


def _list_bounds(schema: dict[str, Any]) -> dict[str, Any]:
    return {key: schema[key] for key in ("minItems", "maxItems") if key in schema}


def _is_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(_is_list(part) for part in get_args(annotation))


def marks_of(info: FieldInfo) -> list[Any]:
    """What a field's annotation carries beside its type, also inside a union."""
    return [*info.metadata, *_inner_marks(info.annotation)]


def _inner_marks(annotation: Any) -> list[Any]:
    """Marks inside unions: `Image | None` keeps its Media two levels down."""
    if get_origin(annotation) is Annotated:
        return list(get_args(annotation)[1:])
    if get_origin(annotation) is list:
        return []
    return [mark for part in get_args(annotation) for mark in _inner_marks(part)]


def _inline(schema: Any, shared: dict[str, Any]) -> Any:
    """Resolve local `$ref`s, so that each port's schema stands alone."""
    if isinstance(schema, list):
        return [_inline(item, shared) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return _inline(shared[name], shared) | {k: v for k, v in schema.items() if k != "$ref"}
    return {
        key: _inline(value, shared) for key, value in schema.items() if key != "title" or not isinstance(value, str)
    }


class _PortSchema(GenerateJsonSchema):
    """JSON Schema of fields; a handle's type has none, and needs none."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        return {}
