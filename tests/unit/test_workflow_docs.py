"""The page of the language: its wrong examples are refused as it says, its expressions give what it says."""

import ast
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from spindle_common import expressions
from spindle_common.contracts import NodeType
from spindle_common.expressions import ExpressionError
from spindle_common.problems import InvalidWorkflow
from spindle_control import compiler
from spindle_control.compiler import Limits, check
from spindle_control.compiler.codes import CODES
from support.compiler_catalog import catalog

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "workflow.md").read_text()
WRONG = re.findall(r"^Refused with `(\S+)` at `(\S+)`:\n\n```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
GIVEN: dict[str, Any] = {
    "seed": 7,
    "scale": 1.5,
    "name": "Ada",
    "words": ["red", "green", "blue"],
    "size": {"width": 128},
}
EXPRESSIONS = re.findall(
    r"^\| `(.+?)` \| (?:`(.+)`|refused: (.+)) \|$", PAGE.partition("\n## Expressions")[2], re.MULTILINE
)


def builtin() -> compiler.Catalog:
    kept = json.loads((ROOT / "common" / "schemas" / "derived" / "builtin-nodes.json").read_text())
    types = [NodeType.model_validate(each) for each in kept]
    queues = {each.type: frozenset([each.queue] if each.queue else []) for each in types}
    return catalog(types={each.type: each for each in types}, queues=queues)


@pytest.mark.parametrize(
    ("code", "pointer", "text"), WRONG, ids=[f"{code}-{at}" for at, (code, _, _) in enumerate(WRONG)]
)
def test_what_is_wrong_is_refused_as_it_says(code: str, pointer: str, text: str) -> None:
    with pytest.raises(InvalidWorkflow) as caught:
        check({"schema": "spindle.workflow/v1", **json.loads(text)}, builtin(), Limits())
    assert [(found.code, found.pointer) for found in caught.value.errors] == [(code, pointer)]


def test_every_block_of_json_is_run_or_refused() -> None:
    blocks = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    run = [block for block in blocks if "spindle.workflow/v1" in block]
    assert len(WRONG) >= 6
    assert len(run) + len(WRONG) == len(blocks)


@pytest.mark.parametrize(("text", "expected", "refusal"), EXPRESSIONS)
def test_an_expression_gives_what_it_says(text: str, expected: str, refusal: str) -> None:
    if refusal:
        with pytest.raises(ExpressionError) as caught:
            expressions.evaluate(expressions.parse(text), {"inputs": GIVEN})
        said = f"{caught.value} {caught.value.hint}".replace("'", "`")
        assert refusal.rsplit(maxsplit=1)[-1].strip("`") in said
    else:
        assert expressions.evaluate(expressions.parse(text), {"inputs": GIVEN}) == json.loads(expected)


def test_the_expressions_were_found() -> None:
    assert len(EXPRESSIONS) >= 15


# Codes ----------------------------------------------------------------------------------------------------------------


def told() -> set[str]:
    """The codes that the compiler's source names where it notes a mistake."""
    found: set[str] = set()
    for path in Path(compiler.__file__).parent.glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(call, ast.Call)
                and isinstance(call.func, ast.Attribute)
                and call.func.attr in ("add", "warn")
            ):
                found |= {str(arg.value) for arg in call.args[1:2] if isinstance(arg, ast.Constant)}
    return found


def test_every_code_is_in_the_table() -> None:
    known = {code for codes in CODES.values() for code in codes}
    assert len(told()) > 20
    assert told() <= known


def test_the_table_names_no_code_that_is_never_told() -> None:
    sources = [path for path in (ROOT / "control" / "spindle_control").rglob("*.py") if path.name != "codes.py"]
    text = "\n".join(path.read_text() for path in [*sources, Path(expressions.__file__)])
    missing = [code for codes in CODES.values() for code in codes if f'"{code}"' not in text]
    assert not missing


def test_no_two_headings_are_the_same() -> None:
    headings = sorted(re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE))
    assert not [one for one, other in pairwise(headings) if one == other]
