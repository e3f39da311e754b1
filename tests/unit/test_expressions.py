import contextlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spindle_common.expressions import MAX_CHARACTERS, ExpressionError, evaluate, parse


@pytest.mark.parametrize(
    ("text", "roots"),
    [
        ("inputs.seed + 1", {"inputs.seed"}),
        ('inputs["seed"] + 1', {"inputs.seed"}),
        ("1 + 1", set()),
        ("a.b.c.d == a.x[0].y", {"a.b", "a.x"}),
        ("has(a.b) ? a.b : c.d", {"a.b", "c.d"}),
        ('"a.b" + x.y // z.q', {"x.y"}),
        ("'''it's a.b''' + x.y", {"x.y"}),
        ('r"\\d" + x.y', {"x.y"}),
        ('{"k": a.b, a.c: 1}', {"a.b", "a.c"}),
        ("inputs . seed", {"inputs.seed"}),
        ("a.items.map(i, i.x + b.y)", {"a.items", "b.y"}),
        ("a.items.exists(inputs, inputs.x)", {"a.items"}),
        ("a.map", {"a.map"}),
        ("size(a.b) in [1, 2]", {"a.b"}),
        ("a.b.size()", {"a.b"}),
        ("-a.b - 1.5e3", {"a.b"}),
    ],
)
def test_variables_are_found(text, roots):
    assert parse(text).roots == roots


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("inputs", "stands alone"),
        ("node", "stands alone"),
        ("node.size()", "stands alone"),
        ("inputs[a.b]", "stands alone"),
        ("inputs[0]", "stands alone"),
        ("Message{a: 1}", "stands alone"),
        (".a.b", "starts with a dot"),
        ("1 +", "not CEL"),
        ("", "not CEL"),
        ("in", "not CEL"),
        ("a.b c.d", "not CEL"),
        ("`a`.b", "does not belong"),
        ("é.b", "does not belong"),
        ("foo(a.b)", "no function `foo`"),
        ("a.b.shout()", "no function `shout`"),
        ("[1].map(i, [2].map(j, i * j))", "2 times"),
        ("a.b.all(i, i) && a.c.exists(j, j)", "2 times"),
        ('a.b.matches("x(")', "no regular expression"),
        ('a.b.matches("(?=x)")', "no regular expression"),
        ("a.b.matches(a.c)", "literal string"),
        ("(" * 200 + "1" + ")" * 200, "not CEL"),
        ("'" + "x" * MAX_CHARACTERS + "'", "512 are allowed"),
    ],
)
def test_what_is_no_expression(text, said):
    with pytest.raises(ExpressionError, match=said):
        parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("inputs.seed + 1", 8),
        ("inputs.scale * 2.0", 3.0),
        ("double(inputs.seed) * inputs.scale", 10.5),
        ("inputs.seed > 3 && inputs.name.startsWith('a')", True),
        ("inputs.list.map(i, i * 2)", [2, 4, 6]),
        ("inputs.list.filter(i, i > 1)", [2, 3]),
        ("{'a': inputs.list, 'b': null}", {"a": [1, 2, 3], "b": None}),
        ("has(inputs.map.x) ? 1 : 0", 0),
        ('inputs.name.matches("^a.+$")', True),
        ("inputs.name + '!'", "anna!"),
        ("string(timestamp('2026-01-02T00:00:00Z').getFullYear())", "2026"),
        ("inputs['seed']", 7),
    ],
)
def test_values(text, value):
    scope = {"inputs": {"seed": 7, "scale": 1.5, "name": "anna", "list": [1, 2, 3], "map": {}}}
    assert evaluate(parse(text), scope) == value


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("inputs.scale * 2", "float \\* int", "double\\(x\\)"),
        ("inputs.map.nothing", "no 'nothing'", "has"),
        ("1 / 0", "division by zero", ""),
        ("1.0 / 0.0", "finite", ""),
        ("b'abc'", "bytes", "string"),
        ("timestamp('2026-01-02T00:00:00Z')", "datetime", "string"),
        ("duration('1h')", "timedelta", "string"),
        ("{1: 2}", "keys", "quotes"),
        ("inputs.long + inputs.long", "larger than 65536", ""),
        ("9223372036854775807 + 1", "overflow", ""),
        ("int('x')", "invalid digit", ""),
        ("nothing.there", "nothing", ""),
    ],
)
def test_failures(text, said, hint):
    scope = {"inputs": {"scale": 1.5, "map": {}, "long": "x" * 40_000}}
    with pytest.raises(ExpressionError, match=said) as caught:
        evaluate(parse(text), scope)
    assert re.search(hint, caught.value.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        "inputs.many.map(i, i)",
        "inputs.many.filter(i, i > 0)",
        "inputs.many.all(i, i in inputs.many)",
        "inputs.some.map(i, inputs.text + inputs.text + inputs.text)",
        "(inputs.many + inputs.many).map(i, i)",
        'inputs.names.filter(n, n.matches("^\\\\w\\\\w\\\\w$"))',
    ],
)
def test_bombs_are_refused_at_once(text):
    scope = {
        "inputs": {
            "many": list(range(30_000)),
            "some": list(range(900)),
            "text": "x" * 60_000,
            "names": ["abc"] * 1000,
        }
    }
    expression = parse(text)
    began = time.process_time()
    with pytest.raises(ExpressionError, match="too much work"):
        evaluate(expression, scope)
    assert time.process_time() - began < 10, "bounded, however slow the machine"


def test_long_lists_may_be_searched():
    assert evaluate(parse("inputs.many.exists(i, i == 29999)"), {"inputs": {"many": list(range(30_000))}}) is True
    assert len(evaluate(parse("inputs.many.map(i, i + 1)"), {"inputs": {"many": list(range(500))}})) == 500


def test_only_what_is_named_is_handed_over():
    scope = {"inputs": {"seed": 1, "odd": object()}, "node": {"handle": object()}}
    assert evaluate(parse("inputs.seed"), scope) == 1


@given(st.text(max_size=80) | st.text("ab.()[]{}'\"+-!?:,&|<>= \n\\0159in", max_size=80))
def test_no_text_does_more_than_fail(text):
    try:
        expression = parse(text)
    except ExpressionError:
        return
    with contextlib.suppress(ExpressionError):
        evaluate(expression, {"inputs": {"a": 1}, "a": {"b": [1, "x"]}})


WORDS = st.sampled_from(["inputs.a", "a.b", "a['b']", "1", "'x.y'", "true", "[1]", "{'k': c.d}", "size(a.b)", "x.y.z"])
SIGNS = st.sampled_from([" + ", "==", " && ", " in ", ", ", "?", ":", ".", " "])


@given(st.lists(st.tuples(WORDS, SIGNS), min_size=1, max_size=6))
def test_the_reader_sees_every_variable_that_the_library_sees(parts):
    text = "".join(word + sign for word, sign in parts) + "1"
    try:
        expression = parse(text)
    except ExpressionError as error:
        refused = str(error)
    else:
        assert {root.partition(".")[0] for root in expression.roots} == set(expression.program.variables())  # type: ignore[attr-defined]
        return
    assert "told apart" not in refused
