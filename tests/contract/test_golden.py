"""Messages that were once written must be understood for ever: each golden file passes its schema and its model."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import BaseModel
from referencing import Registry, Resource

from spindle_common import contracts

GOLDEN = Path(__file__).parent / "golden"
MODELS: dict[str, type[BaseModel]] = {
    "artifact": contracts.Artifact,
    "event": contracts.Event,
    "manifest": contracts.Manifest,
    "problem": contracts.Problem,
    "run": contracts.Run,
    "task": contracts.Task,
    "workflow": contracts.Workflow,
}


def schemas() -> dict[str, Any]:
    folder = resources.files("spindle_common.contracts")
    return {name: json.loads((folder / f"{name}.schema.json").read_text()) for name in MODELS}


SCHEMAS = schemas()
REGISTRY: Any = Registry().with_resources((s["$id"], Resource.from_contents(s)) for s in SCHEMAS.values())
FILES = sorted(GOLDEN.rglob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_message_is_understood(path: Path) -> None:
    kind, document = path.stem.split("-")[0], json.loads(path.read_text())
    jsonschema.Draft202012Validator(SCHEMAS[kind], registry=REGISTRY).validate(document)
    parsed = MODELS[kind].model_validate(document)
    again = parsed.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert MODELS[kind].model_validate(again) == parsed
    assert again.keys() == document.keys(), "nothing was lost"


def test_every_contract_has_a_golden_message() -> None:
    assert {path.stem.split("-")[0] for path in FILES} == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_schemas_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[name])
