"""Documents of up to 1 MiB that each ask for one kind of work without end: what the check's budget is for.

Each name has a function that makes the document, and the code of a mistake that must be told.
"""

import math
import random
from collections.abc import Callable
from typing import Any

from support.compiler_catalog import noop, workflow

Json = dict[str, Any]
ENOUGH = 1900


def ref(text: str) -> Json:
    return {"$from": text}


def many(count: int, make: Callable[[int], Json], **more: Any) -> Json:
    """A node of a kind again and again, and one that is wrong."""
    wrong = {"type": "image.resize@1"}
    return workflow({f"n{at}": make(at) for at in range(count)} | {"b": noop(), "zz": wrong}, **more)


def ports(count: int, value: Any) -> Json:
    return {"type": "test.noop@1", "inputs": {f"in{at}": value for at in range(count)}}


def holding(value: Any) -> Json:
    return noop(inputs={"in": value})


def asking(schema: Json, **more: Any) -> Json:
    return {"type": "flow.approve@1", "answer": schema, **more}


def mapped(body: Json, **more: Any) -> Json:
    return {"type": "flow.map@1", "over": [1], "body": {"nodes": {"a": noop()}} | body, **more}


def bomb(at: int, depth: int) -> Json:
    shared = {f"d{k}": {"allOf": [ref_to(f"d{k + 1}")] * 2} for k in range(depth)}
    return {"$defs": {f"d{depth}": {"minLength": at}} | shared, **ref_to("d0")}


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def ref_to(name: str) -> Json:
    return {"$ref": f"#/$defs/{name}"}


def circle() -> Json:
    return {"$defs": {"a": {"items": ref_to("b")}, "b": {"anyOf": [ref_to("a")] * 20}}, **ref_to("a")}


def union(count: int, key: str, start: int) -> Json:
    return {"anyOf": [{"type": "string", key: start + at} for at in range(count)]}


def given(schema: Json) -> Json:
    return mapped({"inputs": {"p": schema}}, **{"with": {"p": ref("inputs.q")}})


def look_alikes() -> Json:
    rng = random.Random(1)
    words = ["a" + "".join(rng.choice("ab") for _ in range(63)) for _ in range(2 * ENOUGH)]
    return workflow({word: noop(other) for word, other in zip(words[::2], words[1::2], strict=True)})


def encoded(count: int) -> Json:
    nodes: Json = {"c": {"type": "text.encode@1", "inputs": {"prompt": "x"}}}
    for at in range(count):
        before = {"latents": ref(f"s{at - 1}.latents")} if at else {}
        nodes[f"s{at}"] = {"type": "image.sample@1", "inputs": {"conditioning": ref("c.conditioning"), **before}}
    return workflow({**nodes, "zz": {"type": "image.resize@1"}})


def below_a_long_key(length: int, values: list[Any]) -> Json:
    return holding({"x" * length: values})


def matches(pattern: str) -> Callable[[int], Json]:
    return lambda at: noop(when=f"'x'.matches(r'{pattern}{at}')")


TREE = [[at, {"k": at}] for at in range(200)]
SUM = "+".join(f"n{at}.value" for at in range(45))
KINDS: dict[str, tuple[Callable[[], Json], str]] = {
    "references everywhere": (
        lambda: many(1500, lambda at: ports(20, ref(f"n{at - 1 if at else 'x'}.value"))),
        "too-large",
    ),
    "references in lists": (lambda: many(18, lambda at: holding([ref("b.value")] * 2500)), "too-large"),
    "references to choose from": (
        lambda: many(40, lambda at: holding({"$first": [{"$first": [ref("b.value")] * 30}] * 30})),
        "too-large",
    ),
    "lists of what is there": (
        lambda: many(
            18, lambda at: {"type": "list.concat@1", "inputs": {"lists": {"$present": [ref("b.value")] * 2500}}}
        ),
        "too-large",
    ),
    "literals everywhere": (lambda: many(900, lambda at: ports(100, 1)), "too-large"),
    "secrets everywhere": (lambda: many(1500, lambda at: ports(20, {"$secret": "k"})), "too-large"),
    "one expression everywhere": (lambda: many(1400, lambda at: ports(20, {"$expr": "b.value"})), "too-large"),
    "expressions with many names": (lambda: many(1200, lambda at: noop(when=SUM)), "too-large"),
    "expressions that are wrong": (lambda: many(ENOUGH, lambda at: noop(when=f"b.value + ({at}")), "bad-expression"),
    "expressions in foreign letters": (
        lambda: many(900, lambda at: noop(when=f"'{'é' * 480}' == '{at}'")),
        "too-large",
    ),
    "patterns in expressions": (lambda: many(ENOUGH, matches("\\pL" * 100)), "too-large"),
    "patterns in answers": (
        lambda: many(1000, lambda at: asking({"pattern": f"(\\pL{{10}}|x{at}){{9}}"})),
        "too-large",
    ),
    "repetitions in answers": (
        lambda: many(1000, lambda at: asking({"pattern": f"([^a]{{20}}){{30}}{at}"})),
        "too-large",
    ),
    "answers": (
        lambda: many(ENOUGH, lambda at: asking({"properties": {f"a{key}": {"minLength": at} for key in range(9)}})),
        "too-large",
    ),
    "answers that are no schemas": (
        lambda: many(ENOUGH, lambda at: asking({"type": "strin", "minLength": -1})),
        "bad-schema",
    ),
    "answers that refer in circles": (lambda: many(1500, lambda at: asking(circle())), "bad-schema"),
    "answers that grow": (lambda: many(900, lambda at: asking(bomb(at, 7))), "too-large"),
    "answers that grow beyond bounds": (lambda: many(700, lambda at: asking(bomb(at, 9))), "bad-schema"),
    "enumerations in answers": (lambda: many(40, lambda at: asking({"enum": list(range(at, 2000 + at))})), "too-large"),
    "enumerations against each other": (
        lambda: many(
            450,
            lambda at: given({"enum": list(range(at * 200, at * 200 + 200))}),
            inputs={"q": {"enum": [-one for one in range(256)]}},
        ),
        "too-large",
    ),
    "unions against each other": (
        lambda: many(800, lambda at: given(union(21, "minLength", 50 + at)), inputs={"q": union(21, "maxLength", 0)}),
        "too-large",
    ),
    "unions against literals": (
        lambda: many(
            400, lambda at: mapped({"inputs": {"p": {"anyOf": [{"type": "string"}] * 90}}}, **{"with": {"p": at}})
        ),
        "too-large",
    ),
    "defaults against unions": (
        lambda: many(
            30,
            lambda at: mapped(
                {"inputs": {"i": {"items": {"enum": list(range(at, at + 200))}, "default": [at] * 8000}}}
            ),
        ),
        "too-large",
    ),
    "defaults whose items differ": (
        lambda: many(
            18,
            lambda at: asking(
                {"uniqueItems": True}, deadline="1h", default=[{"a": one} for one in range(4000)] + [{"a": 0}]
            ),
        ),
        "too-large",
    ),
    "values in values": (lambda: many(1500, lambda at: holding(nested(80))), "too-large"),
    "what is shown": (lambda: many(1500, lambda at: asking({}, show={f"s{key}": 1 for key in range(60)})), "too-large"),
    "values in outputs": (
        lambda: many(1, lambda at: noop(), outputs={f"o{at}": TREE for at in range(240)}),
        "too-large",
    ),
    "values in bodies": (
        lambda: many(
            200,
            lambda at: mapped(
                {
                    "nodes": {
                        "a": {"type": "value.const@1", "inputs": {"value": TREE[:90]}},
                        "e": holding(ref("a.value")),
                    }
                }
            ),
        ),
        "too-large",
    ),
    "bodies": (lambda: many(990, lambda at: mapped({"outputs": {"v": ref("a.value")}})), "too-large"),
    "handles": (lambda: encoded(ENOUGH), "missing-input"),
    "keys that nobody knows": (lambda: many(ENOUGH, lambda at: {"type": "flow.map@1"}), "missing-key"),
    "names that look alike": (look_alikes, "unknown-node"),
    "a long key above what is no number": (
        lambda: many(1, lambda at: below_a_long_key(200_000, [[1]] * 2000 + [math.nan])),
        "bad-number",
    ),
    "a long key above digits": (
        lambda: many(1, lambda at: below_a_long_key(200_000, [[1]] * 90_000 + ["1" * 20])),
        "too-large",
    ),
    "long keys above references": (
        lambda: many(16, lambda at: below_a_long_key(30_000, [ref("b.value")] * 1500)),
        "too-large",
    ),
    "a long id above nodes": (
        lambda: workflow({"x" * 100_000: mapped({"nodes": {f"n{at}": noop("b") for at in range(ENOUGH)}})}),
        "bad-id",
    ),
    "a long id above bodies": (
        lambda: workflow({"x" * 300_000: mapped({"nodes": {f"n{at}": mapped({}) for at in range(900)}})}),
        "bad-id",
    ),
}
