"""What a node gets and whether it runs: references, skips, failures, conditions."""

from typing import Any

import pytest

from spindle_common.problems import BadInput
from spindle_common.values import Outcome, Scope, Skip, decide, is_reached, references, resolve_outputs

DONE = {"status": "completed", "outputs": {"value": 3, "list": [{"x": 1}, {"x": 2}], "none": None}}
SKIPPED = {"status": "skipped", "reason": "when-false"}
FAILED = {"status": "failed", "problem": {}}
BLOCKED = {"status": "skipped", "reason": "upstream-failed"}
OUTCOMES: dict[str, Any] = {"done": DONE, "skipped": SKIPPED, "failed": FAILED, "blocked": BLOCKED}
SCOPE = Scope({"seed": 7, "name": "n"}, OUTCOMES, {"key": "s3cret"}.__getitem__)


def node(value: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "test.noop@1", "inputs": {"in": value}, **fields}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        ({"$from": "inputs.seed"}, 7),
        ({"$from": "done.value"}, 3),
        ({"$from": "done.list.1.x"}, 2),
        ({"$from": "done.none"}, None),
        ({"$expr": "inputs.seed + done.value"}, 10),
        ({"deep": [{"$from": "done.value"}, {"more": {"$expr": "1 + 1"}}]}, {"deep": [3, {"more": 2}]}),
        ({"$first": [{"$from": "skipped.value"}, {"$from": "done.value"}]}, 3),
        ({"$present": [{"$from": "skipped.value"}, {"$from": "done.value"}]}, [3]),
        ({"$present": [{"$from": "skipped.value"}]}, []),
        ({"$literal": {"$from": "nothing.at.all"}}, {"$from": "nothing.at.all"}),
        ({"$secret": "key"}, "s3cret"),
    ],
)
def test_references_are_replaced(value: Any, expected: Any) -> None:
    assert decide(node(value), SCOPE) == {"in": expected}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"$from": "skipped.value"}, "input-skipped"),
        ({"$from": "inputs.absent"}, "input-skipped"),
        ({"$from": "failed.value"}, "upstream-failed"),
        ({"$from": "blocked.value"}, "upstream-failed"),
        ({"$expr": "skipped.value + 1"}, "input-skipped"),
        ({"$first": [{"$from": "skipped.value"}, {"$from": "inputs.absent"}]}, "input-skipped"),
        ({"$first": [{"$from": "failed.value"}, {"$from": "done.value"}]}, "upstream-failed"),
        ({"$present": [{"$from": "failed.value"}]}, "upstream-failed"),
    ],
)
def test_what_did_not_run_skips_its_reader(value: Any, reason: str) -> None:
    assert decide(node(value), SCOPE) == Skip(reason)


def test_an_optional_port_is_left_out() -> None:
    assert decide(node({"$from": "skipped.value"}, optional=["in"]), SCOPE) == {}


def test_a_failure_is_not_optional() -> None:
    assert decide(node({"$from": "failed.value"}, optional=["in"]), SCOPE) == Skip("upstream-failed")


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("inputs.seed > 0", {"in": 1}),
        ("inputs.seed < 0", Skip("when-false")),
        ("skipped.value > 0", Skip("input-skipped")),
        ("failed.value > 0", Skip("upstream-failed")),
    ],
)
def test_when_decides(when: str, expected: Any) -> None:
    assert decide(node(1, when=when), SCOPE) == expected


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("has(inputs.seed)", {"in": 1}),
        ("!has(inputs.absent)", {"in": 1}),
        ("has(inputs.absent)", Skip("when-false")),
        ("!has(skipped.value) && inputs.seed == 7", {"in": 1}),
        ("has(inputs.absent) && inputs.absent > 3", Skip("when-false")),
        ("has(done.none)", {"in": 1}),
        ("has(inputs.absent.part)", Skip("input-skipped")),
        ("!has(failed.value)", Skip("upstream-failed")),
        ("!has(blocked.value)", Skip("upstream-failed")),
    ],
)
def test_has_asks_for_what_may_be_missing(when: str, expected: Any) -> None:
    assert decide(node(1, when=when), SCOPE) == expected


def test_when_must_be_a_truth_value() -> None:
    with pytest.raises(BadInput, match="true or false"):
        decide(node(1, when="inputs.seed"), SCOPE)


def test_after_waits_but_only_a_failure_blocks() -> None:
    assert decide(node(1, after=["skipped"]), SCOPE) == {"in": 1}
    assert decide(node(1, after=["failed"]), SCOPE) == Skip("upstream-failed")


@pytest.mark.parametrize("value", [{"$from": "done.list.9"}, {"$from": "done.value.x"}, {"$expr": "inputs.name + 1"}])
def test_what_cannot_be_resolved_is_a_bad_input(value: Any) -> None:
    with pytest.raises(BadInput):
        decide(node(value), SCOPE)


def test_a_secret_stays_shut_where_it_may_not_be_opened() -> None:
    with pytest.raises(BadInput, match="secret"):
        decide(node({"$secret": "key"}), Scope({}, {}))


def test_outputs_leave_out_what_did_not_run() -> None:
    outputs = {"a": {"$from": "done.value"}, "b": {"$from": "skipped.value"}, "c": {"$from": "failed.value"}}
    assert resolve_outputs(outputs, SCOPE) == {"a": 3}


def test_references_are_found_at_any_depth() -> None:
    value = [
        {"$from": "a.x"},
        {"k": {"$expr": "b.y + inputs.z"}},
        {"$first": [{"$from": "c.w"}]},
        {"$literal": {"$from": "d.v"}},
    ]
    assert sorted(references(value)) == ["a.x", "b.y", "c.w", "inputs.z"]


@pytest.mark.parametrize("name", ["a", "b", "c", "d", "e", "f"])
def test_a_failure_wins_over_a_skip_whatever_an_expression_names_first(name: str) -> None:
    outcomes: dict[str, Outcome] = {
        "skipped": {"status": "skipped", "reason": "when-false"},
        name: {"status": "failed"},
    }
    node = {"inputs": {"x": {"$expr": f"skipped.value + {name}.value"}}}
    assert decide(node, Scope({}, outcomes)) == Skip("upstream-failed")


def test_a_loop_is_not_at_its_end_by_what_was_skipped() -> None:
    scope = Scope({"n": 1}, {"skipped": {"status": "skipped", "reason": "when-false"}})
    assert not is_reached("skipped.value > 1", scope)
    assert is_reached("inputs.n == 1", scope)
    with pytest.raises(BadInput, match="`until` must give true or false"):
        is_reached("inputs.n", scope)
