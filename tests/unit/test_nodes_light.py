"""Light nodes: templates, joins, values; and what the specs of all built-in nodes must hold."""

import contextlib
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spindle_common.problems import BadInput
from spindle_worker.node import NodeSpec
from spindle_worker.nodes import builtin_nodes
from spindle_worker.nodes.text import as_text, join, template
from spindle_worker.nodes.value import const, seed
from spindle_worker.testing import context_for, run_node

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)


def filled(text: str, **values: Any) -> str:
    return str(run_node(template, {"template": text, "values": values})["text"])


def test_template_fills_in_values() -> None:
    assert filled("a {size} {what}, {{braces}}", size="large", what="star") == "a large star, {braces}"
    assert filled("{n} {x} {y} {t} {none}!", n=3, x=2.0, y=0.5, t=True, none=None) == "3 2 0.5 true !"
    assert filled("nothing to do") == "nothing to do"
    assert filled("{a}", a="{b}") == "{b}"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{missing}", "needs 'missing'"),
        ("{a.__class__}", "stray '{' at character 0"),
        ("{a[0]}", "stray"),
        ("{a!r}", "stray"),
        ("{a:>1000000000}", "stray"),
        ("{}", "stray"),
        ("{0}", "stray"),
        ("x } y", "stray '}' at character 2"),
        ("{ a }", "stray"),
    ],
)
def test_template_has_names_only(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        filled(text, a="x")


@given(st.text(max_size=50), st.dictionaries(st.sampled_from("abc"), SCALARS))
def test_template_gives_text_or_says_why_not(text: str, values: dict[str, Any]) -> None:
    with contextlib.suppress(BadInput):
        assert isinstance(filled(text, **values), str)


@given(st.text(max_size=50))
def test_doubled_braces_come_back(text: str) -> None:
    assert filled(text.replace("{", "{{").replace("}", "}}")) == text


@given(SCALARS)
def test_any_scalar_is_text(value: Any) -> None:
    assert isinstance(as_text(value), str)


def test_texts_are_bounded() -> None:
    with pytest.raises(BadInput, match="at most 100,000"):
        filled("{a}{a}", a="x" * 60_000)
    with pytest.raises(BadInput, match="template"):
        filled("x" * 100_001)
    with pytest.raises(BadInput, match="at most 100,000"):
        run_node(join, {"parts": ["x" * 60_000] * 2})


def test_join_leaves_out_what_is_empty() -> None:
    assert run_node(join, {"parts": ["a", "", None, "b"]})["text"] == "a, b"
    assert run_node(join, {"parts": ["a", "b"], "separator": " | "})["text"] == "a | b"
    assert run_node(join, {"parts": []})["text"] == ""


@pytest.mark.parametrize("value", [None, 1, "x", [1, {"a": None}], {"b": 2.5}])
def test_const_gives_its_input(value: Any) -> None:
    assert run_node(const, {"value": value})["value"] == value


def test_seed_is_drawn_from_run_and_node() -> None:
    assert run_node(seed, {"seed": 5})["seed"] == 5
    one, again, other = (run_node(seed, {}, context=context_for(node))["seed"] for node in ("a", "a", "b"))
    assert one == again != other


def test_unknown_ports_are_bad_input() -> None:
    with pytest.raises(BadInput, match="extra"):
        run_node(seed, {"extra": 1})


async def test_light_nodes_run_inside_an_event_loop_too() -> None:
    assert run_node(const, {"value": 1}) == {"value": 1}


SPECS = {spec.type: spec for spec in builtin_nodes()}


def test_every_required_type_is_there() -> None:
    assert set(SPECS) >= {
        "text.template@1",
        "text.join@1",
        "value.const@1",
        "model.load@1",
        "text.encode@1",
        "image.sample@1",
        "image.decode@1",
        "image.encode@1",
        "image.generate@1",
        "image.edit@1",
        "image.grid@1",
        "image.resize@1",
        "image.save@1",
    }


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_nodes_describe_themselves(spec: NodeSpec) -> None:
    described = spec.node_type(spec.queue)
    assert described.title
    assert described.description
    assert spec.native is (spec.queue is not None)
    assert not described.cacheable or spec.type != "image.save@1"
    for ports in (described.inputs, described.outputs):
        for name, port in ports.items():
            assert port.description, name


def test_image_ports_are_named_once() -> None:
    usual = {"prompt", "negative_prompt", "steps", "guidance", "seed", "width", "height", "scheduler", "model"}
    assert set(SPECS["image.generate@1"].inputs.model_fields) == usual
    assert set(SPECS["image.edit@1"].inputs.model_fields) == usual | {"image", "strength"}
    for name in ("image.generate@1", "image.edit@1"):
        assert set(SPECS[name].outputs.model_fields) == {"image", "seed"}


def test_limits_are_in_the_schema() -> None:
    ports = SPECS["image.generate@1"].node_type("gpu").inputs
    assert "20000" in str(ports["prompt"].schema_)
    assert "1000" in str(ports["steps"].schema_)
    assert "multipleOf" in str(ports["width"].schema_)
    assert "euler_a" in str(ports["scheduler"].schema_)
    assert (ports["model"].schema_ or {})["x-spindle"] == "model"


def test_nodes_do_not_import_torch() -> None:
    code = (
        "import sys; from spindle_worker.nodes import builtin_nodes; builtin_nodes(); import spindle_worker.models; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'diffusers', 'transformers', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
