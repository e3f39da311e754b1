import time
from typing import Any

import pytest

from spindle_control.compiler.types import clash, describe

INT, TEXT, NUMBER = {"type": "integer"}, {"type": "string"}, {"type": "number"}
PNG, IMAGE, WAV, ANY_FILE = ({"artifact": media} for media in ("image/png", "image/*", "audio/wav", "*/*"))


def list_of(items, **more):
    return {"type": "array", "items": items, **more}


def object_of(required=(), closed=False, **properties):
    extra = {"additionalProperties": False} if closed else {}
    return {"type": "object", "properties": properties, "required": list(required), **extra}


FITTING = [
    ({}, TEXT),
    (TEXT, {}),
    (INT, NUMBER),
    (NUMBER, INT),
    (PNG, IMAGE),
    (IMAGE, PNG),
    (PNG, ANY_FILE),
    (PNG, {"type": "object"}),
    ({"type": "object"}, PNG),
    ({}, PNG),
    (TEXT, {"anyOf": [INT, TEXT]}),
    ({"anyOf": [INT, TEXT]}, TEXT),
    ({"type": ["string", "null"]}, TEXT),
    ({"minimum": 0, **INT}, {"maximum": 0, **INT}),
    ({"enum": ["a", "b"]}, {"enum": ["b", "c"]}),
    ({"const": 5}, {"maximum": 5}),
    ({"enum": [1, "x"]}, TEXT),
    (list_of(INT), list_of(NUMBER)),
    (list_of(TEXT, maxItems=0), list_of(INT)),
    (list_of(PNG), list_of(IMAGE)),
    (list_of({}), list_of(INT)),
    ({"type": "array"}, list_of(INT)),
    (object_of(a=INT), object_of(a=TEXT)),
    (object_of(["a"], a=INT), object_of(b=TEXT)),
    (object_of(closed=True, a=INT), object_of(["a"], a=NUMBER)),
    ({"minLength": 3, **TEXT}, {"maxLength": 3, **TEXT}),
    ({"not": INT}, INT),
    (True, INT),
]
CLASHING = [
    (TEXT, INT),
    (NUMBER, TEXT),
    ({"type": "boolean"}, NUMBER),
    (PNG, WAV),
    (WAV, IMAGE),
    (TEXT, PNG),
    (PNG, TEXT),
    (PNG, list_of(IMAGE)),
    (list_of(PNG), IMAGE),
    (PNG, object_of(["path"], closed=True, path=TEXT)),
    (TEXT, {"anyOf": [INT, {"type": "null"}]}),
    ({"anyOf": [INT, TEXT]}, {"type": "boolean"}),
    ({"anyOf": [INT, TEXT]}, {"oneOf": [{"type": "null"}, PNG]}),
    (TEXT, {"allOf": [{}, INT]}),
    ({"allOf": [TEXT]}, INT),
    ({"minimum": 1, **INT}, {"maximum": 0, **INT}),
    ({"exclusiveMinimum": 0, **NUMBER}, {"maximum": 0, **NUMBER}),
    ({"maximum": 5, **NUMBER}, {"minimum": 5.5, **NUMBER}),
    ({"enum": ["a", "b"]}, {"enum": ["c"]}),
    ({"const": "a"}, INT),
    (INT, {"enum": ["a", "b"]}),
    ({"const": 9}, {"maximum": 8, **INT}),
    ({"minLength": 4, **TEXT}, {"maxLength": 3, **TEXT}),
    (list_of(TEXT), list_of(INT)),
    (list_of(WAV), list_of(IMAGE)),
    (list_of(INT, minItems=3), list_of(INT, maxItems=2)),
    (object_of(["a"], a=INT), object_of(a=TEXT)),
    (object_of(a=INT), object_of(["a"], a=TEXT)),
    (object_of(closed=True, a=INT), object_of(["b"])),
    (object_of(["b"]), object_of(closed=True, a=INT)),
    (object_of(["a"], a=list_of(INT)), object_of(["a"], a=list_of(TEXT))),
]


@pytest.mark.parametrize(("given", "wanted"), FITTING)
def test_what_may_fit_is_left_to_the_run(given, wanted):
    assert clash(given, wanted) is None


@pytest.mark.parametrize(("given", "wanted"), CLASHING)
def test_what_never_fits_is_told(given, wanted):
    assert clash(given, wanted)


def test_unions_in_unions_end():
    """With 3**40 branches: after so much work the rest is left to the run."""
    deep: dict[str, Any] = TEXT
    other: dict[str, Any] = INT
    for _ in range(40):
        deep = {"anyOf": [deep, deep, deep], "allOf": [deep, deep]}
        other = {"anyOf": [other, other, other], "allOf": [other, other]}
    began = time.process_time()
    assert clash(deep, deep) is None
    assert clash(deep, other) is None
    assert time.process_time() - began < 10, "bounded, however slow the machine"


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (IMAGE, "image/*"),
        (list_of(IMAGE), "a list of image/*"),
        (INT, "an integer"),
        ({"type": "integer", "minimum": 1, "maximum": 10}, "an integer from 1 to 10"),
        ({"type": "number", "exclusiveMinimum": 0}, "a number above 0"),
        ({"type": "number", "maximum": 3}, "a number of at most 3"),
        ({"enum": ["a", 1]}, 'one of "a", 1'),
        ({"const": True}, "true"),
        ({"anyOf": [TEXT, {"type": "null"}]}, "a string or null"),
        ({}, "anything"),
        (True, "anything"),
    ],
)
def test_descriptions(schema, words):
    assert describe(schema) == words
