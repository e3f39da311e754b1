"""What the compiler says that a list node gives is what it gives: literals in, the type beforehand, the value after."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spindle_common.contracts import NodeType
from spindle_common.problems import BadInput
from spindle_control.compiler.references import Reference
from spindle_control.compiler.report import Report
from spindle_control.compiler.schemas import compiled
from spindle_control.compiler.scope import Scope
from spindle_control.compiler.shapes import widened
from spindle_worker.calling import parse_inputs, returned
from spindle_worker.node import NodeSpec
from spindle_worker.nodes import list as lists
from spindle_worker.nodes import specs_of, value
from spindle_worker.testing import context_for
from support.compiler_catalog import catalog

SPECS = {spec.type: spec for module in (lists, value) for spec in specs_of(module) if spec.deterministic}
TYPES: dict[str, NodeType] = {name: spec.node_type(None) for name, spec in SPECS.items()}
CATALOG = catalog(types=TYPES, queues={name: frozenset() for name in TYPES})

PICTURE = {"digest": "sha256:" + "1" * 64, "media_type": "image/png", "size": 3}
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 2.0]) | st.text("ab", max_size=2)
VALUES = st.recursive(
    SCALARS | st.just(PICTURE),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
LISTS = st.lists(VALUES, max_size=5) | st.lists(st.integers(0, 40), max_size=25)
PORTS: dict[str, st.SearchStrategy[Any]] = {
    "items": LISTS,
    "lists": st.dictionaries(st.sampled_from("abc"), LISTS, max_size=3) | st.lists(LISTS, max_size=3),
    "by": st.lists(st.none() | st.integers(-3, 3), max_size=5),
    "keep": st.lists(st.booleans(), max_size=5),
    "indices": st.lists(st.integers(-5, 5), max_size=3),
    "order": st.sampled_from(["highest", "lowest", "ascending", "descending"]),
    "condition": st.booleans(),
    "value": VALUES,
    "then": VALUES,
    "otherwise": VALUES,
    "seed": st.integers(0, 9),
}
_LOOP = asyncio.Runner()


@pytest.fixture(autouse=True, scope="module")
def _loop() -> Iterator[None]:
    yield
    _LOOP.close()


@st.composite
def filled(draw: st.DrawFn) -> tuple[NodeSpec, dict[str, Any]]:
    """A node type with inputs that may or may not suit it."""
    spec = SPECS[draw(st.sampled_from(sorted(SPECS)))]
    ports = TYPES[spec.type].inputs
    named = [name for name, port in ports.items() if port.required or draw(st.booleans())]
    inputs = {name: draw(PORTS.get(name, st.integers(-3, 6))) for name in named}
    length = len(inputs.get("items", ()))
    for name in {"by", "keep"} & inputs.keys():
        inputs[name] = (inputs[name] * 30)[:length]
    return spec, inputs


def types_of(spec: NodeSpec, inputs: dict[str, Any]) -> dict[str, Any]:
    """The type of each output, as the compiler follows it."""
    node = {"type": spec.type, "inputs": {name: {"$literal": given} for name, given in inputs.items()}}
    scope = Scope({"n": node}, {}, CATALOG, Report())
    shapes = {name: scope.shape(Reference("n", name, (), "")) for name in TYPES[spec.type].outputs}
    return {name: shape.schema for name, shape in shapes.items() if shape is not None}


@given(filled())
def test_values_have_the_types_that_were_followed(drawn: tuple[NodeSpec, dict[str, Any]]) -> None:
    spec, inputs = drawn
    try:
        given = parse_inputs(spec, inputs)
        outputs = returned(spec, _LOOP.run(spec.function(given, context_for()))).values
    except BadInput:
        return
    for name, schema in types_of(spec, inputs).items():
        assert compiled(schema).errors(outputs[name]) == [], (name, schema)
        assert compiled(widened(schema)).errors(outputs[name]) == [], (name, widened(schema))


def test_something_is_followed_in_all_but_a_few() -> None:
    loose = {
        f"{name}.{port}"
        for name, described in TYPES.items()
        for port, about in described.outputs.items()
        if not (set(about.schema_ or {}) - {"description"}) or about.schema_.get("items") == {}
    }
    assert loose == {"list.flatten@1.items"}
