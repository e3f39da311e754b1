"""Differences of documents: applied by somebody else's RFC 6902, they give the other document."""

from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spindle_common.digests import canonical
from spindle_control.difference import nodes, patch

LEAVES = st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from([0.0, 0.5, 1.0, "", "a", "b"])
KEYS = st.sampled_from(["a", "b", "a/b", "~1", "~", "0", "1", "-", "", "ä"])
VALUES = st.recursive(
    LEAVES, lambda each: st.lists(each, max_size=4) | st.dictionaries(KEYS, each, max_size=4), max_leaves=16
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=4)


@given(DOCUMENTS, DOCUMENTS)
def test_a_patch_turns_one_into_the_other(before: dict[str, Any], after: dict[str, Any]) -> None:
    made = jsonpatch.apply_patch(before, patch(before, after))
    assert canonical(made) == canonical(after)


@given(DOCUMENTS)
def test_nothing_differs_from_itself(document: dict[str, Any]) -> None:
    assert patch(document, document) == []


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"x": 1}, {"x": True}, [{"op": "replace", "path": "/x", "value": True}]),
        ({"x": 1}, {"x": 1.0}, []),
        ({"x": [0, 1, 2]}, {"x": [1, 2]}, [{"op": "remove", "path": "/x/0"}]),
        ({"x": [1, 2]}, {"x": [1, 9, 2]}, [{"op": "add", "path": "/x/1", "value": 9}]),
        ({"x": [1, {"y": 1}, 3]}, {"x": [1, {"y": 2}, 3]}, [{"op": "replace", "path": "/x/1/y", "value": 2}]),
        (
            {"a/b~": 1, "x": []},
            {"x": {}},
            [{"op": "remove", "path": "/a~1b~0"}, {"op": "replace", "path": "/x", "value": {}}],
        ),
    ],
)
def test_small_edits_give_small_patches(before: Any, after: Any, expected: Any) -> None:
    assert patch(before, after) == expected


def test_nodes_are_told_by_their_paths_in_bodies_too() -> None:
    def document(**inner: Any) -> dict[str, Any]:
        body = {"inputs": {"item": {"type": "integer"}}, "nodes": inner}
        return {"nodes": {"vars": {"type": "flow.map@1", "over": [1], "body": body}, "end": {"type": "a.b@1"}}}

    before = document(image={"type": "a.b@1"}, score={"type": "a.b@1"})
    after = document(image={"type": "a.b@2"}, best={"type": "a.b@1"})
    assert nodes(before, after) == {"added": ["vars.best"], "removed": ["vars.score"], "changed": ["vars.image"]}
    after["nodes"]["vars"]["over"] = [2]
    after["nodes"]["end"]["inputs"] = {}
    assert nodes(before, after)["changed"] == ["vars", "vars.image", "end"]
