"""What a document may ask of the check: too much of any kind is told, in little memory; good documents have enough."""

import gc
from typing import Any

import pytest

from fuzz.judging import CATALOG
from spindle_common.contracts import Mistake
from spindle_common.problems import InvalidWorkflow
from spindle_control.compiler import check
from spindle_control.compiler.report import Report, ReportFull
from spindle_control.compiler.work import MAX_WORK, Work, expression_cost, pattern_cost
from support.compiler_catalog import noop, workflow
from support.hostile_kinds import KINDS, mapped, ref
from support.memory import peak


def mistakes(document: dict[str, Any], **more: Any) -> tuple[Mistake, ...]:
    with pytest.raises(InvalidWorkflow) as caught:
        check(document, CATALOG, **more)
    return caught.value.errors


@pytest.mark.parametrize("name", KINDS)
def test_what_is_wrong_is_told(name: str) -> None:
    make, code = KINDS[name]
    found = mistakes(make())
    assert code in {each.code for each in found}
    assert len(found) <= 1001
    assert sum(len(each.pointer) for each in found) < 4 << 20


@pytest.mark.parametrize("name", [name for name in KINDS if name.startswith(("a long", "long", "answers that grow"))])
def test_it_takes_little_memory(name: str) -> None:
    document = KINDS[name][0]()
    assert peak(lambda: mistakes(document)) < 100 << 20


def test_the_same_document_is_always_judged_alike() -> None:
    document = KINDS["patterns in expressions"][0]()
    first = mistakes(document)
    assert mistakes(document) == first, "also with everything in caches"
    assert "expressions" in first[-1].detail


def test_nothing_of_a_check_waits_for_the_collector() -> None:
    document = workflow({"b": noop(), **{f"n{at}": noop("b") for at in range(50)}})
    check(document, CATALOG)
    gc.collect()
    gc.disable()
    try:
        check(document, CATALOG)
        assert gc.collect() == 0
    finally:
        gc.enable()


def poster(at: int) -> dict[str, Any]:
    values = {"subject": {"$from": "inputs.subject"}}
    image = {"prompt": {"$from": f"prompt{at}.text"}, "seed": {"$expr": f"inputs.seed + {at}"}, "steps": 20}
    resized = {"image": {"$from": f"image{at}.image"}, "scale": 2}
    return {
        f"prompt{at}": {"type": "text.template@1", "inputs": {"template": "{subject}", "values": values}},
        f"image{at}": {"type": "image.generate@1", "inputs": image},
        f"big{at}": {"type": "image.resize@1", "when": "inputs.seed > 0", "inputs": resized},
    }


def test_two_thousand_good_nodes_are_not_too_much() -> None:
    nodes: dict[str, Any] = {}
    for at in range(666):
        nodes |= poster(at)
    inputs = {"subject": {"type": "string"}, "seed": {"type": "integer", "default": 7}}
    assert len(check(workflow(nodes, inputs=inputs), CATALOG).nodes) == 1998


def test_two_thousand_nodes_with_eight_thousand_references_are_not_too_much() -> None:
    nodes = {f"n{at}": noop(*(f"n{other}" for other in range(max(0, at - 4), at))) for at in range(2000)}
    assert len(check(workflow(nodes), CATALOG).nodes) == 2000


def test_as_many_bodies_and_expressions_as_the_docs_promise_are_not_too_much() -> None:
    bodies = {f"m{at}": mapped({"outputs": {"v": ref("a.value")}}) for at in range(850)}
    assert len(check(workflow(bodies), CATALOG).nodes) == 850
    conditions = {f"n{at}": noop(when=f"b.value > {at}") for at in range(1100)}
    assert len(check(workflow({"b": noop()} | conditions), CATALOG).nodes) == 1101


def test_a_called_workflow_draws_on_the_same_budget_and_its_mistakes_are_told() -> None:
    hostile = KINDS["expressions that are wrong"][0]()
    caller = workflow({"c": {"type": "flow.call@1", "workflow_ref": "w@1"}})
    found = mistakes(caller, library={"w@1": hostile})
    assert {each.code for each in found} & {"bad-workflow", "too-large"}
    full = workflow({f"n{at}": {"type": "no.such@1"} for at in range(1500)})
    assert [each.code for each in mistakes(caller, library={"w@1": full})] == ["bad-workflow"]


def test_the_budget_ends_with_a_mistake() -> None:
    report = Report(Work(10))
    report.spend(9, "names")
    with pytest.raises(ReportFull):
        report.spend(2, "names")
    (only,) = report.errors
    assert (only.pointer, only.code) == ("", "too-large")
    assert "names" in only.detail


@pytest.mark.parametrize(
    ("dear", "cheap"),
    [
        ("'é' == 'é'", "'e' == 'e'"),
        ("x.matches(r'\\pL')", "x.matches(r'a')"),
        ("a.b + a.b + a.b", "a.b"),
        ("1" * 9, ""),
    ],
)
def test_what_takes_longer_costs_more(dear: str, cheap: str) -> None:
    assert expression_cost(dear) > expression_cost(cheap)


def test_no_pattern_costs_more_than_finding_that_it_is_too_large() -> None:
    assert pattern_cost("(\\pL{999}){999}", 10_000) < 10_000 + MAX_WORK // 2
    assert pattern_cost("^[a-z]{1,64}$", 10_000) < 200


ORDER_WORDS = ["depends_on", "dependsOn", "needs"]


@pytest.mark.parametrize("word", ORDER_WORDS)
def test_words_for_order_lead_to_after(word: str) -> None:
    (found,) = mistakes(workflow({"b": noop(), "a": noop(**{word: ["b"]})}))
    assert (found.pointer, found.code) == (f"/nodes/a/{word}", "unknown-key")
    assert '"after": ["node"]' in str(found.model_dump()["hint"])


LIKE_REFERENCES = [
    (workflow({"b": noop(), "a": noop(inputs={"in": "b.value"})}), "/nodes/a/inputs/in"),
    (workflow({"a": noop(inputs={"in": "inputs.x"})}, inputs={"x": {}}), "/nodes/a/inputs/in"),
    (workflow({"b": noop()}, outputs={"o": "b.value"}), "/outputs/o"),
    (
        workflow({"b": noop(), "p": {"type": "flow.approve@1", "answer": {}, "show": {"s": "b.value"}}}),
        "/nodes/p/show/s",
    ),
]


@pytest.mark.parametrize(("document", "pointer"), LIKE_REFERENCES)
def test_text_that_reads_like_a_reference_is_warned_of(document: dict[str, Any], pointer: str) -> None:
    (warning,) = check(document, CATALOG).warnings
    assert (warning.pointer, warning.code, warning.severity) == (pointer, "text-like-reference", "warning")
    assert "$from" in str(warning.model_dump()["hint"])


@pytest.mark.parametrize("text", ["b.nothing", "c.value", "value", "b.value ", "a.b.c", "inputs.y"])
def test_other_text_is_not(text: str) -> None:
    document = workflow({"b": noop(), "a": noop(inputs={"in": text})}, inputs={"x": {}}, outputs={"o": text})
    assert check(document, CATALOG).warnings == ()
