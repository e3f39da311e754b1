"""One node being translated: its inputs read and checked, and what its translation may use.

spec = CLASSES[node.class_type]
call = Call(work, node, arguments)
call.words("positive")                  # a thing that came along a link
call.number("cfg")                      # a widget's value
raise call.refusal("sampler_name", "no-equivalent", "…", "…")
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from spindle_control.importers.builder import Builder, Path
from spindle_control.importers.comfyui.classes import MISSING, WIDGETS, In
from spindle_control.importers.comfyui.graph import Graph, Node
from spindle_control.importers.comfyui.recipes import Recipes
from spindle_control.importers.comfyui.things import KINDS, Clip, Const, Latents, Mask, Model, Pictures, Vae, Words
from spindle_control.importers.outcome import Findings, Options, shown

Json = dict[str, Any]
T = TypeVar("T")


class Refused(Exception):
    """A node cannot be translated; what is wrong has been noted."""


@dataclass
class Work:
    """What the translation of all nodes shares."""

    graph: Graph
    builder: Builder
    findings: Findings
    options: Options
    recipes: Recipes
    outputs: dict[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """A node with its inputs."""

    work: Work
    node: Node
    arguments: Json

    @property
    def title(self) -> str:
        """What people call the node, else what its class is called."""
        return self.node.title or self.node.class_type

    def at(self, name: str) -> Path:
        """Where an input stands."""
        return (*self.node.path, "inputs", name)

    def refusal(self, name: str | None, code: str, detail: str, hint: str | None = None) -> Refused:
        """Note what is in the way of translating this node; to be raised."""
        self.work.findings.error(self.at(name) if name else self.node.path, code, detail, hint)
        return Refused(detail)

    def note(self, name: str | None, code: str, detail: str, hint: str | None = None) -> None:
        """Note what the author should know of this node."""
        self.work.findings.note(self.at(name) if name else self.node.path, code, detail, hint)

    def emit(self, node_type: str, inputs: Json, origins: dict[str, str] | None = None, suffix: str = "") -> str:
        """Add a node to the workflow and return its id; `origins` names the inputs that its inputs are from."""
        places = {name: self.at(origin) for name, origin in (origins or {}).items()}
        title = {"title": self.node.title} if self.node.title else {}
        name = f"{self.title} {suffix}".strip()
        return self.work.builder.node(name, node_type, inputs, self.node.path, origins=places, **title)

    def number(self, name: str) -> float:
        """The value of an INT or FLOAT."""
        return cast(float, self.arguments[name])

    def whole(self, name: str) -> int:
        """The value of an INT."""
        return cast(int, self.arguments[name])

    def text(self, name: str) -> str:
        """The value of a STRING or COMBO."""
        return cast(str, self.arguments[name])

    def thing(self, name: str, kind: type[T]) -> T:
        """What came along a link."""
        return cast(T, self.arguments[name])

    def model(self, name: str = "model") -> Model:
        """A MODEL."""
        return self.thing(name, Model)

    def clip(self, name: str = "clip") -> Clip:
        """A CLIP."""
        return self.thing(name, Clip)

    def vae(self, name: str = "vae") -> Vae:
        """A VAE."""
        return self.thing(name, Vae)

    def words(self, name: str) -> Words:
        """A CONDITIONING."""
        return self.thing(name, Words)

    def latents(self, name: str) -> Latents:
        """A LATENT."""
        return self.thing(name, Latents)

    def pictures(self, name: str) -> Pictures:
        """An IMAGE."""
        return self.thing(name, Pictures)

    def mask(self, name: str) -> Mask:
        """A MASK."""
        return self.thing(name, Mask)


Handler = Callable[[Call], tuple[Any, ...]]


def fitting(spec: In, value: Any, call: Call, name: str) -> Any:
    """Return an input's value as its kind wants it, converted as ComfyUI does. Raises Refused."""
    if spec.kind not in WIDGETS:
        if not isinstance(value, KINDS[spec.kind]):
            what = "a link" if isinstance(value, str | int | float | list | dict | None) else type(value).__name__
            raise call.refusal(name, "type-mismatch", f"{call.node.class_type} wants {spec.kind} here, not {what}")
        return value
    if isinstance(value, Const):
        value = value.value
    converted = _CONVERTERS[spec.kind](value)
    if converted is MISSING:
        raise call.refusal(name, "bad-literal", f"{shown(value)} is no {spec.kind}")
    _check_bounds(spec, converted, call, name)
    return converted


def _check_bounds(spec: In, value: Any, call: Call, name: str) -> None:
    if spec.choices and value not in spec.choices:
        raise call.refusal(
            name, "bad-literal", f"{shown(value)} is none of the choices", "there are: " + ", ".join(spec.choices)
        )
    low = -math.inf if spec.low is None else spec.low
    high = math.inf if spec.high is None else spec.high
    if isinstance(value, int | float) and not low <= value <= high:
        raise call.refusal(name, "bad-literal", f"{shown(value)} is not between {low:g} and {high:g}")


def _whole(value: Any) -> Any:
    number = _number(value)
    return MISSING if number is MISSING else int(value) if isinstance(value, str) and _digits(value) else int(number)


def _digits(text: str) -> bool:
    return len(text) <= 20 and text.lstrip("-").isascii() and text.lstrip("-").isdigit()


def _number(value: Any) -> Any:
    if isinstance(value, str) and len(value) <= 40:
        try:
            value = float(value)
        except ValueError:
            return MISSING
    if isinstance(value, bool | int):
        return int(value)
    return value if isinstance(value, float) and math.isfinite(value) else MISSING


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else str(value) if isinstance(value, int | float) else MISSING


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "INT": _whole,
    "FLOAT": _number,
    "STRING": _text,
    "COMBO": _text,
    "BOOLEAN": lambda value: value if isinstance(value, bool) else MISSING,
}
