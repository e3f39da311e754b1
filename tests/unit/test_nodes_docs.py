"""The reference of built-in nodes names every node type, port and scheduler."""

import re
from pathlib import Path
from typing import Annotated, Any

from spindle_worker import node as sdk
from spindle_worker.diffusion import SCHEDULER_NAMES
from spindle_worker.nodes import builtin_nodes
from spindle_worker.testing import run_node

REFERENCE = (Path(__file__).parents[2] / "docs" / "nodes.md").read_text()


def test_every_port_is_in_the_reference() -> None:
    sections = dict(re.findall(r"^### `([^`]+)`\n(.*?)(?=^##|\Z)", REFERENCE, re.MULTILINE | re.DOTALL))
    for spec in builtin_nodes():
        described = spec.node_type(spec.queue)
        rows = re.findall(r"^\| (→ )?`(\w+)` \|", sections.pop(spec.type), re.MULTILINE)
        assert [name for arrow, name in rows if not arrow] == list(described.inputs), spec.type
        assert [name for arrow, name in rows if arrow] == list(described.outputs), spec.type
    assert not sections


def test_every_scheduler_is_in_the_reference() -> None:
    table = REFERENCE.partition("## Schedulers")[2].partition("\n## ")[0]
    assert set(re.findall(r"`([a-z0-9_]+)`", table)) >= set(SCHEDULER_NAMES)


def test_its_node_is_one() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", REFERENCE, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {name: getattr(sdk, name) for name in sdk.__all__} | {"Annotated": Annotated, "Any": Any}
    exec(code, names)
    assert run_node(names["first"], {"items": [3, 4]})["item"] == 3
    assert names["first"].spec.node_type(None).outputs["item"].schema_["x-type-of"] == "items/*"
