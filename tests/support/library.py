"""Stored workflows for tests: over HTTP, or a library on a real database for a catalog of one node type."""

from pathlib import Path
from typing import Any

import httpx

from spindle_common.garbage import Garbage
from spindle_control.library import Library
from spindle_control.planner import Planner
from spindle_control.registry import Registry
from spindle_control.settings import ControlSettings
from spindle_control.store import Store
from spindle_control.stored import StoredWorkflows
from support.compiler_catalog import TYPES
from support.control import API, Control

SHELF = f"{API}/workflows"
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


def poster(number: int = 1, **more: Any) -> Json:
    """A document that gives a number back."""
    node = {"type": "test.noop@1", "inputs": {"in_x": 1, "value": number}}
    document = {"schema": "spindle.workflow/v1", "name": "poster", "nodes": {"a": node}, **more}
    return document | {"outputs": {"value": {"$from": "a.value"}}}


async def put(control: Control, document: Json, name: str = "poster", **headers: str) -> httpx.Response:
    given = {name.replace("_", "-"): text for name, text in headers.items()}
    return await control.http.put(f"{SHELF}/{name}", json=document, headers=given)


async def ended(control: Control, response: httpx.Response) -> Json:
    assert response.status_code == 202, response.text
    where = response.headers["Location"]
    found: Json = (await control.http.get(where, params={"wait": "30s"}, timeout=40)).json()
    return found
