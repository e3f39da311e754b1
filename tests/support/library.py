"""A library of workflows on a real database, for a catalog of one node type."""

from pathlib import Path
from typing import Any

from spindle_common.garbage import Garbage
from spindle_control.library import Library
from spindle_control.planner import Planner
from spindle_control.registry import Registry
from spindle_control.settings import ControlSettings
from spindle_control.store import Store
from spindle_control.stored import StoredWorkflows
from support.compiler_catalog import TYPES

Json = dict[str, Any]


async def open_library(garbage: Garbage, store: Store, most_versions: int = 1000) -> Library:
    """A library that knows `text.template@1` only."""
    template = next(node_type for node_type, _ in TYPES if node_type.type == "text.template@1")
    await store.save_node_types([template.model_dump(mode="json", by_alias=True, exclude={"queue"})])
    registry = Registry(garbage, store)
    await registry.load()
    planner = Planner(registry, ControlSettings(data_dir=Path("unused")))
    return Library(StoredWorkflows(store), planner, garbage.spare, most_versions)


def words(text: str = "hello", **values: Any) -> Json:
    """A document of one node."""
    node = {"type": "text.template@1", "inputs": {"template": text, "values": values}}
    return {"schema": "spindle.workflow/v1", "nodes": {"a": node}, "outputs": {"text": {"$from": "a.text"}}}
