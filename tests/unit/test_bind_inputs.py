import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spindle_common.problems import InvalidInputs
from spindle_control.compiler import bind_inputs, check
from support.compiler_catalog import catalog, noop, workflow

DIGEST = "sha256:" + "a" * 64
PHOTO = {"digest": DIGEST, "media_type": "image/png", "size": 3}
SOUND = {"digest": DIGEST, "media_type": "audio/wav", "size": 3}
SPECS = {
    "seed": {"type": "integer", "minimum": 0, "default": 7},
    "name": {"type": "string", "maxLength": 5},
    "scale": {"type": "number", "default": 2},
    "maybe": {"type": ["number", "null"], "optional": True},
    "sizes": {"type": "array", "items": {"type": "number"}, "default": [1, 2]},
    "photo": {"artifact": "image/*", "optional": True},
    "photos": {"type": "array", "items": {"artifact": "image/*"}, "maxItems": 2, "optional": True},
    "box": {"type": "object", "properties": {"w": {"type": "number"}}, "optional": True},
    "any": {"optional": True},
}
CHECKED = check(workflow({"a": noop()}, inputs=SPECS), catalog())


def bind(**given):
    return bind_inputs(CHECKED, {"name": "anna"} | given)


def test_defaults():
    assert bind() == {"name": "anna", "seed": 7, "scale": 2.0, "sizes": [1.0, 2.0]}
    assert type(bind()["scale"]) is float


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 2**63),
        ("photo", PHOTO),
        ("photos", [PHOTO, PHOTO]),
        ("maybe", None),
        ("any", {"$from": "not a reference"}),
    ],
)
def test_values(name, value):
    assert bind(**{name: value})[name] == value


def test_whole_numbers_become_floats_where_numbers_are_wanted():
    bound = bind(scale=3, maybe=1, sizes=[1, 2.5], box={"w": 1, "h": 1})
    assert [type(bound["scale"]), type(bound["maybe"]), type(bound["sizes"][0])] == [float] * 3
    assert type(bound["box"]["w"]) is float
    assert type(bound["box"]["h"]) is int
    assert type(bind(seed=3)["seed"]) is int


MISTAKES = [
    ({"seed": "x"}, "/inputs/seed", "bad-input"),
    ({"seed": -1}, "/inputs/seed", "bad-input"),
    ({"seed": True}, "/inputs/seed", "bad-input"),
    ({"name": "too long"}, "/inputs/name", "bad-input"),
    ({"sizes": [1, "2"]}, "/inputs/sizes/1", "bad-input"),
    ({"sed": 1}, "/inputs/sed", "unknown-input"),
    ({"a/b": 1}, "/inputs/a~1b", "unknown-input"),
    ({"photo": SOUND}, "/inputs/photo/media_type", "bad-input"),
    ({"photo": "me.png"}, "/inputs/photo", "bad-input"),
    ({"photo": PHOTO | {"digest": "sha256:../x"}}, "/inputs/photo/digest", "bad-input"),
    ({"photo": PHOTO | {"path": "x"}}, "/inputs/photo", "bad-input"),
    ({"photos": [PHOTO, SOUND]}, "/inputs/photos/1/media_type", "bad-input"),
    ({"photos": [PHOTO] * 3}, "/inputs/photos", "bad-input"),
    ({"seed": math.nan}, "/inputs/seed", "bad-number"),
    ({"any": [math.inf]}, "/inputs/any/0", "bad-number"),
    ({"any": 10**40}, "/inputs/any", "bad-number"),
    ({"any": "\ud800"}, "/inputs/any", "bad-text"),
    ({"any": "x" * 70_000}, "/inputs/any", "too-large"),
    ({"any": "x" * 2_000_000}, "/inputs", "too-large"),
]


@pytest.mark.parametrize(("given", "pointer", "code"), MISTAKES)
def test_mistakes(given, pointer, code):
    with pytest.raises(InvalidInputs) as caught:
        bind(**given)
    assert [(found.pointer, found.code) for found in caught.value.errors] == [(pointer, code)]


def test_all_mistakes_at_once():
    with pytest.raises(InvalidInputs) as caught:
        bind_inputs(CHECKED, {"seed": "x", "sed": 1, "photo": 3})
    found = {(mistake.pointer, mistake.code) for mistake in caught.value.errors}
    assert found == {
        ("/inputs/seed", "bad-input"),
        ("/inputs/sed", "unknown-input"),
        ("/inputs/photo", "bad-input"),
        ("/inputs/name", "missing-input"),
    }


@pytest.mark.parametrize("given", [None, [], "x", 3])
def test_inputs_are_an_object(given):
    with pytest.raises(InvalidInputs):
        bind_inputs(CHECKED, given)


def test_the_prefix_says_where_they_stand():
    with pytest.raises(InvalidInputs) as caught:
        bind_inputs(CHECKED, {"name": 1}, "/runs/0/inputs")
    assert caught.value.errors[0].pointer == "/runs/0/inputs/name"


VALUES: Any = st.none() | st.integers() | st.floats() | st.text() | st.just([{}])


@given(st.dictionaries(st.sampled_from([*SPECS, "other"]), VALUES))
def test_no_inputs_do_more_than_fail(given):
    try:
        bound = bind_inputs(CHECKED, given)
    except InvalidInputs as error:
        refused = error
    else:
        assert set(given) <= set(bound)
        return
    assert refused.errors
