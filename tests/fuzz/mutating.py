"""Cases made from others: something in one is removed, copied, moved, replaced, or takes the place of something else.

mutated(case, others, rng)      a new case; the ones given stay as they are
"""

import copy
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

Json = dict[str, Any]
Place = tuple[Any, Any]
"""A container, and the key under which something stands in it."""

_MOST = 1 << 16
_KEYS = [
    "type",
    "inputs",
    "when",
    "after",
    "on_error",
    "timeout",
    "retry",
    "queue",
    "cache",
    "title",
    "over",
    "concurrency",
    "on_item_error",
    "with",
    "body",
    "carry",
    "until",
    "max_iterations",
    "workflow_ref",
    "show",
    "answer",
    "deadline",
    "default",
    "schema",
    "nodes",
    "outputs",
    "name",
    "on_failure",
    "artifact",
    "optional",
    "items",
    "properties",
    "required",
    "enum",
    "const",
    "anyOf",
    "allOf",
    "minimum",
    "maxItems",
    "$ref",
    "$defs",
    "x-type-of",
    "$from",
    "$expr",
    "$first",
    "$present",
    "$secret",
    "$literal",
    "item",
    "index",
    "a",
    "v",
    "n",
    "value",
    "iterations",
    "reached",
    "__proto__",
    "constructor",
    "hasOwnProperty",
    "$spilled",
]
_TYPES = [
    "flow.map@1",
    "flow.loop@1",
    "flow.call@1",
    "flow.approve@1",
    "test.noop@1",
    "test.noop@2",
    "image.generate@1",
    "image.resize@1",
    "image.grid@1",
    "text.template@1",
    "text.encode@1",
    "image.sample@1",
    "image.decode@1",
    "image.encode@1",
    "model.load@1",
    "list.range@1",
    "list.best@1",
    "list.zip@1",
    "list.concat@1",
    "list.take@1",
    "value.const@1",
    "value.select@1",
    "value.random@1",
    "flow.map@2",
    "nothing.there@1",
]
_REFERENCES = [
    "inputs.n",
    "inputs.x",
    "inputs.item",
    "inputs.index",
    "v.value",
    "a.value",
    "a.answer",
    "a.answer.yes",
    "v.n",
    "l.n",
    "l.reached",
    "m.v",
    "m.v.0",
    "c.n",
    "a",
    "v.",
    ".v",
    "a.b.c.d.e.f",
    "inputs",
    "v.value.-1",
    "v.value.99999999999999999999",
    "m.image",
    "p.image",
    "e.conditioning",
]
_ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2, 16, 1000, 10_001, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64,
    10**30, 0.5, -0.0,
    1e308, -1e308, 5e-324, 1e16, "", " ", "a", "x" * 300, "é", "ａ", "а", "a\u200b", "\u202e", "\U0001f600",
    "\x00", "~1",
    "/", "a/b~c", "5s", "0s", "999999999d", "1.5ms", "image/*", "*/*", "audio/wav", "number", "string",
    "integer", "array",
    "object", "null", "poster@1", "self@1", "skip", "null", "fail", "stop", [], {}, [[]], [{}], {"": {}}, {"a": {}},
]  # fmt: skip
_CEL = [
    "inputs.n",
    "v.value",
    "a.value.a.b",
    "inputs.l",
    "inputs.o",
    "1",
    "2.5",
    '"s"',
    "true",
    "null",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    "+",
    "-",
    "*",
    "/",
    "%",
    "==",
    "!=",
    "<",
    "<=",
    "&&",
    "||",
    "!",
    "?",
    ":",
    ",",
    ".",
    "in",
    "has(",
    "size(",
    "int(",
    "string(",
    "double(",
    "matches(",
    ".all(x,",
    ".map(x,",
    ".filter(x,",
    ".exists(x,",
    ".exists_one(x,",
    "x",
    "x)",
    "9223372036854775807",
    "1e308",
    "0xff",
    "1u",
    'b"x"',
    '"\\u0000"',
    "'a'",
    "startsWith(",
    "timestamp(",
    "duration(",
    "type(",
    "dyn(",
    ".size()",
    "[0]",
    "[-1]",
    '{"a":',
    "1}",
    "(((",
    ")))",
]
_WORDS = re.compile(r"\w+|\W")


def mutated(case: Json, others: Sequence[Json], rng: random.Random) -> Json:
    """Return a case like `case`, changed in one to six places."""
    found = copy.deepcopy({"document": {}, **case})
    fixed: Json = {key: found.pop(key) for key in ("library", "expressions") if key in found}
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        places = [place for place in _places(found) if place[0] is not found]
        if not places:
            break
        container, key = rng.choice(places)
        rng.choices(_MUTATIONS, _WEIGHTS)[0](container, key, others, rng)
    found |= fixed
    if rng.random() < 0.3:
        found["expressions"] = [expression(rng)]
    return found if len(repr(found)) < _MOST else copy.deepcopy(case)


def expression(rng: random.Random) -> str:
    """Return words of CEL in no order, or nearly in order."""
    if rng.random() < 0.4:
        return " ".join(rng.choice(_CEL) for _ in range(rng.randint(1, 12)))
    terms = (rng.choice(_CEL[:9]) for _ in range(rng.randint(1, 5)))
    return rng.choice(("+", " == ", " < ", " && ", " in ", ", ")).join(terms)


def _places(root: Any) -> list[Place]:
    found: list[Place] = []
    waiting = [root]
    while waiting:
        value = waiting.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            found.append((value, key))
            waiting.append(value[key])
    return found


Mutation = Callable[[Any, Any, Sequence[Json], random.Random], None]


def _remove(container: Any, key: Any, _others: Sequence[Json], _rng: random.Random) -> None:
    del container[key]


def _replace(container: Any, key: Any, _others: Sequence[Json], rng: random.Random) -> None:
    container[key] = copy.deepcopy(rng.choice(_ODD))


def _refer(container: Any, key: Any, _others: Sequence[Json], rng: random.Random) -> None:
    refs = [{"$from": rng.choice(_REFERENCES)} for _ in range(rng.randint(1, 3))]
    forms: list[Any] = [
        refs[0],
        {"$first": refs},
        {"$present": refs},
        {"$expr": expression(rng)},
        {"$literal": refs[0]},
    ]
    container[key] = rng.choice([*forms, refs[0], {"$secret": "key"}])


def _retype(container: Any, key: Any, _others: Sequence[Json], rng: random.Random) -> None:
    value = container[key]
    if isinstance(value, dict):
        value["type"] = rng.choice(_TYPES)
    else:
        container[key] = rng.choice(_TYPES)


def _add(container: Any, key: Any, _others: Sequence[Json], rng: random.Random) -> None:
    value = container[key]
    if isinstance(value, dict):
        value[rng.choice(_KEYS)] = copy.deepcopy(rng.choice(_ODD))
    elif isinstance(value, list):
        value.insert(rng.randint(0, len(value)), copy.deepcopy(rng.choice(_ODD)))


def _rename(container: Any, key: Any, _others: Sequence[Json], rng: random.Random) -> None:
    if isinstance(container, dict):
        container[rng.choice([*_KEYS, "é", "a" * 64, "a" * 65])] = container.pop(key)


def _graft(container: Any, key: Any, others: Sequence[Json], rng: random.Random) -> None:
    there, name = rng.choice(_places(rng.choice(others)))
    if isinstance(container, dict) and isinstance(name, str) and rng.random() < 0.5:
        container[name] = copy.deepcopy(there[name])
    else:
        container[key] = copy.deepcopy(there[name])


def _wrap(container: Any, key: Any, _others: Sequence[Json], rng: random.Random) -> None:
    value = container[key]
    if isinstance(value, dict) and "type" in value:
        body = {"nodes": {"a": value}, "outputs": {"v": {"$from": "a.value"}}}
        kind = rng.choice(("flow.map@1", "flow.loop@1"))
        more = {"over": [1, 2]} if kind == "flow.map@1" else {"max_iterations": 2}
        container[key] = {"type": kind, "body": body, **more}
    else:
        container[key] = rng.choice([[value], {"a": value}, {"items": value}, [value] * 3])


def _text(container: Any, key: Any, _others: Sequence[Json], rng: random.Random) -> None:
    value = container[key]
    if not isinstance(value, str) or not value:
        return
    words = _WORDS.findall(value)
    at = rng.randrange(len(words))
    words[at] = rng.choice([rng.choice(_CEL), words[at] * 2, "", words[at].upper(), str(rng.choice(_ODD))])
    container[key] = "".join(words)[:2000]


def _number(container: Any, key: Any, _others: Sequence[Json], rng: random.Random) -> None:
    value = container[key]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        container[key] = rng.choice([-value, value + 1, value - 1, float(value), str(value), value * 1000])


_MUTATIONS: tuple[Mutation, ...] = (_remove, _replace, _refer, _retype, _add, _rename, _graft, _wrap, _text, _number)
_WEIGHTS = (3, 4, 4, 2, 3, 2, 4, 2, 4, 2)
