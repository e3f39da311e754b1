"""Workflows of test nodes."""

from typing import Any

Json = dict[str, Any]


def noop(**nodes: Json) -> Json:
    """One node that gives back what it takes, and others."""
    return {
        "schema": "spindle.workflow/v1",
        "name": "noop",
        "nodes": {"a": {"type": "test.noop@1", "inputs": {"in_x": 1}}, **nodes},
    }


def sleeper(seconds: float) -> Json:
    """One node that takes its time."""
    node = {"type": "test.sleep@1", "inputs": {"seconds": seconds, "value": 7}}
    return {
        "schema": "spindle.workflow/v1",
        "name": "sleeper",
        "nodes": {"a": node},
        "outputs": {"v": {"$from": "a.value"}},
    }
