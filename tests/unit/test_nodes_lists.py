"""list.*, and value.choose: what they give, and what they say when they cannot."""

import asyncio
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spindle_common.contracts import Artifact
from spindle_common.problems import BadInput
from spindle_worker.calling import parse_inputs, returned
from spindle_worker.nodes import list as lists
from spindle_worker.nodes.same import sameness
from spindle_worker.nodes.value import choose
from spindle_worker.testing import context_for, stored

MOST = lists.MAX_ITEMS
ITEMS = st.lists(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.just({"a": 1}) | st.just([1]), max_size=12
)
NUMBERS = st.integers(-50, 50) | st.floats(-50, 50)
WHOLE = st.integers(-30, 30)


_LOOP = asyncio.Runner()


@pytest.fixture(autouse=True, scope="module")
def _loop() -> Iterator[None]:
    yield
    _LOOP.close()


def run_node(function: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """Run a light node as a worker does, on one loop for all: properties try hundreds."""
    result = _LOOP.run(function(parse_inputs(function.spec, inputs), context_for()))
    return returned(function.spec, result).values


def refused(function: Any, inputs: dict[str, Any]) -> str:
    with pytest.raises(BadInput) as caught:
        run_node(function, inputs)
    return str(caught.value)


# list.range ----------------------------------------------------------------------------------------------------------


@given(WHOLE, WHOLE, WHOLE.filter(bool))
def test_whole_ranges_are_those_of_python(start: int, stop: int, step: int) -> None:
    made = run_node(lists.range_, {"start": start, "stop": stop, "step": step})["items"]
    assert made == list(range(start, stop, step))
    assert all(type(number) is int for number in made)


@given(NUMBERS, NUMBERS, st.integers(0, 40))
def test_a_count_gives_so_many(start: float, step: float, count: int) -> None:
    made = run_node(lists.range_, {"start": start, "step": step, "count": count})["items"]
    assert made == [start + at * step for at in range(count)]


def test_a_range_that_leads_away_from_its_end_is_empty() -> None:
    for ends in ({"start": 5, "stop": 0}, {"start": 1e308, "stop": -1e308}, {"start": 0.5, "stop": 1, "step": -0.1}):
        assert run_node(lists.range_, ends)["items"] == []


@given(NUMBERS, NUMBERS, st.floats(0.01, 5))
def test_ranges_end_before_stop(start: float, stop: float, step: float) -> None:
    made = run_node(lists.range_, {"start": start, "stop": stop, "step": step})["items"]
    # One that rounding puts on stop itself is as near to it as floats can tell.
    assert all(number <= stop or number == pytest.approx(stop) for number in made)
    assert bool(made) == (start < stop)


def test_fractions() -> None:
    assert run_node(lists.range_, {"stop": 1.0, "step": 0.25})["items"] == [0, 0.25, 0.5, 0.75]
    assert run_node(lists.range_, {"count": 3})["items"] == [0, 1, 2]
    assert run_node(lists.range_, {"start": 2, "step": 0, "count": 3})["items"] == [2, 2, 2]
    assert len(run_node(lists.range_, {"stop": MOST})["items"]) == MOST


@pytest.mark.parametrize(
    ("inputs", "why"),
    [
        ({}, "either stop, or count"),
        ({"stop": 3, "count": 3}, "either stop, or count"),
        ({"stop": 3, "step": 0}, "step of 0"),
        ({"stop": MOST + 1}, "more than 10,000"),
        ({"stop": 1, "step": 1e-300}, "more than 10,000"),
        ({"stop": 1e308, "start": -1e308}, "more than 10,000"),
        ({"stop": 10**400}, "finite"),
        ({"start": 1e308, "step": 1e308, "count": 3}, "too large"),
        ({"count": MOST + 1}, "count"),
        ({"count": -1}, "count"),
        ({"count": True}, "count"),
        ({"start": True, "count": 1}, "start"),
        ({"start": "1", "count": 1}, "start"),
        ({"start": float("nan"), "count": 1}, "finite"),
    ],
)
def test_ranges_that_cannot_be(inputs: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        run_node(lists.range_, inputs)


# Chosen by numbers ---------------------------------------------------------------------------------------------------


@given(st.lists(st.none() | NUMBERS, min_size=1, max_size=20), st.sampled_from(["highest", "lowest"]))
def test_best_is_the_first_of_the_best(by: list[float | None], order: str) -> None:
    items = [f"item {at}" for at in range(len(by))]
    numbers = [number for number in by if number is not None]
    if not numbers:
        assert "nothing to choose from" in refused(lists.best, {"items": items, "by": by, "order": order})
        return
    score = (max if order == "highest" else min)(numbers)
    expected = {"item": items[by.index(score)], "index": by.index(score), "score": score}
    assert run_node(lists.best, {"items": items, "by": by, "order": order}) == expected


@given(st.lists(st.none() | NUMBERS, max_size=20), st.integers(1, 25), st.sampled_from(["highest", "lowest"]))
def test_top_is_best_again_and_again(by: list[float | None], count: int, order: str) -> None:
    found = run_node(lists.top, {"items": list(range(len(by))), "by": by, "count": count, "order": order})
    left = list(by)
    expected: list[int] = []
    while len(expected) < count and any(number is not None for number in left):
        ran = run_node(lists.best, {"items": list(range(len(by))), "by": left, "order": order})
        expected.append(ran["index"])
        left[ran["index"]] = None
    assert found == {"items": expected, "indices": expected, "scores": [by[at] for at in expected]}


def test_there_is_a_number_for_each_item() -> None:
    assert refused(lists.best, {"items": [1, 2], "by": [1]}) == (
        "`items` has 2, `by` has 1: there must be one for each item"
    )
    assert "/inputs/by/0" in refused(lists.best, {"items": [1], "by": ["a"]})
    assert "/inputs/by/0" in refused(lists.best, {"items": [1], "by": [True]})
    assert "nothing to choose from" in refused(lists.best, {"items": [], "by": []})
    assert "count" in refused(lists.top, {"items": [], "by": [], "count": 0})
    assert "`keep` has 0" in refused(lists.filter_, {"items": [1], "keep": []})
    assert "/inputs/keep/0" in refused(lists.filter_, {"items": [1], "keep": [1]})


def test_pictures_stay_what_they_are() -> None:
    files: dict[str, bytes] = {}
    one, two = (stored(files, data, "image/png") for data in (b"one", b"two"))
    assert run_node(lists.best, {"items": [one, two], "by": [1, 2]})["item"] == two
    assert (
        Artifact.model_validate(run_node(lists.pick, {"items": [one, two], "index": -1})["item"]).digest
        == two["digest"]
    )


# Ordered and chosen --------------------------------------------------------------------------------------------------


@given(
    st.lists(st.none() | NUMBERS, max_size=20) | st.lists(st.none() | st.text(max_size=4), max_size=20), st.booleans()
)
def test_sort_orders_and_keeps_everything(keys: list[Any], down: bool) -> None:
    order = "descending" if down else "ascending"
    alone = run_node(lists.sort, {"items": keys, "order": order})
    by = run_node(lists.sort, {"items": list(range(len(keys))), "by": keys, "order": order})
    assert by["items"] == by["indices"] == alone["indices"]
    assert sorted(alone["indices"]) == list(range(len(keys)))
    ordered = alone["items"]
    present = [key for key in keys if key is not None]
    assert ordered == sorted(present, reverse=down) + [None] * (len(keys) - len(present))
    for (one, key), (other, following) in itertools.pairwise(zip(alone["indices"], ordered, strict=True)):
        assert key != following or one < other


def test_only_like_can_be_ordered() -> None:
    assert "`items` must hold numbers only, or texts only: give `by`" in refused(lists.sort, {"items": [1, "a"]})
    assert "`by` must hold" in refused(lists.sort, {"items": [1], "by": [True]})
    assert "`items` must hold" in refused(lists.sort, {"items": [{"a": 1}]})
    assert "`by` has 2" in refused(lists.sort, {"items": [1], "by": [1, 2]})


@given(ITEMS, st.data())
def test_filter_keeps_what_is_said(items: list[Any], data: st.DataObject) -> None:
    keep = data.draw(st.lists(st.booleans(), min_size=len(items), max_size=len(items)))
    kept = run_node(lists.filter_, {"items": items, "keep": keep})
    assert kept["items"] == [item for item, kept in zip(items, keep, strict=True) if kept]
    assert [items[at] for at in kept["indices"]] == kept["items"]


@given(ITEMS)
def test_compact_and_unique(items: list[Any]) -> None:
    assert run_node(lists.compact, {"items": items})["items"] == [item for item in items if item is not None]
    once = run_node(lists.unique, {"items": items})
    texts = [json.dumps(item) for item in items]
    assert once["indices"] == [at for at, text in enumerate(texts) if text not in texts[:at]]
    assert run_node(lists.unique, {"items": once["items"]})["items"] == once["items"]


def test_what_is_the_same() -> None:
    assert run_node(lists.unique, {"items": [1, 1.0, True, "1", None, {"a": 1, "b": [2.0]}, {"b": [2], "a": 1}]}) == {
        "items": [1, True, "1", None, {"a": 1, "b": [2.0]}],
        "indices": [0, 2, 3, 4, 5],
    }
    assert sameness(0.5) != sameness("0.5")


@given(ITEMS.filter(len), st.data())
def test_pick_counts_from_either_end(items: list[Any], data: st.DataObject) -> None:
    index = data.draw(st.integers(-len(items), len(items) - 1))
    assert run_node(lists.pick, {"items": items, "index": index}) == {"item": items[index], "items": [items[index]]}
    assert run_node(lists.pick, {"items": items, "indices": [index, 0]})["items"] == [items[index], items[0]]


def test_what_cannot_be_picked() -> None:
    assert refused(lists.pick, {"items": ["a"], "index": 1}) == "`items` has 1, so there is no item 1: the last is 0"
    assert "it is empty" in refused(lists.pick, {"items": [], "index": 0})
    assert "no item -2" in refused(lists.pick, {"items": ["a"], "indices": [0, -2]})
    assert "either index, or indices" in refused(lists.pick, {"items": ["a"]})
    assert "either index, or indices" in refused(lists.pick, {"items": ["a"], "index": 0, "indices": [0]})
    assert "indices" in refused(lists.pick, {"items": ["a"], "indices": []})


@given(ITEMS, st.none() | WHOLE, st.none() | WHOLE, WHOLE)
def test_slices_are_those_of_python(items: list[Any], start: int | None, stop: int | None, step: int) -> None:
    inputs = {"items": items, "start": start, "stop": stop, "step": step}
    if step:
        assert run_node(lists.slice_, inputs)["items"] == items[start:stop:step]
    else:
        assert "step of 0" in refused(lists.slice_, inputs)


# Joined and split ----------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from("abc"), ITEMS, min_size=1))
def test_zip_and_product(named: dict[str, list[Any]]) -> None:
    rows = run_node(lists.product, {"lists": named})["items"]
    assert [tuple(row.values()) for row in rows] == list(itertools.product(*named.values()))
    assert all(list(row) == list(named) for row in rows)
    if len({len(items) for items in named.values()}) > 1:
        assert "equally long" in refused(lists.zip_, {"lists": named})
    else:
        zipped = run_node(lists.zip_, {"lists": named})["items"]
        assert {name: [row[name] for row in zipped] for name in named} == named


def test_combinations_are_bounded() -> None:
    wide = {name: [0] * 100 for name in "ab"}
    assert len(run_node(lists.product, {"lists": wide})["items"]) == 10_000
    assert refused(lists.product, {"lists": wide | {"c": [0, 1]}}) == (
        "There would be 20,000 combinations; at most 10,000 are made"
    )
    assert "lists" in refused(lists.product, {"lists": {}})
    assert "lists" in refused(lists.zip_, {"lists": {f"l{at}": [] for at in range(65)}})


@given(st.lists(ITEMS, max_size=5), ITEMS)
def test_concat_and_append(parts: list[list[Any]], items: list[Any]) -> None:
    joined = run_node(lists.concat, {"lists": parts})["items"]
    assert joined == [item for part in parts for item in part]
    grown: list[Any] = []
    for item in items:
        grown = run_node(lists.append, {"items": grown, "value": item})["items"]
    assert grown == items


@given(ITEMS, st.integers(1, 15))
def test_chunks_joined_are_the_list(items: list[Any], size: int) -> None:
    chunks = run_node(lists.chunk, {"items": items, "size": size})["chunks"]
    assert run_node(lists.concat, {"lists": chunks})["items"] == items
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert run_node(lists.length, {"items": chunks})["length"] == -(-len(items) // size)


def test_flatten_opens_so_many_levels() -> None:
    nested = [1, [2, [3, [4]]], [], "ab", {"a": [5]}]
    assert run_node(lists.flatten, {"items": nested})["items"] == [1, 2, [3, [4]], "ab", {"a": [5]}]
    assert run_node(lists.flatten, {"items": nested, "depth": 16})["items"] == [1, 2, 3, 4, "ab", {"a": [5]}]
    assert "depth" in refused(lists.flatten, {"items": nested, "depth": 0})


def test_lists_are_bounded() -> None:
    full = [0] * MOST
    assert "more than 10,000" in refused(lists.append, {"items": full, "value": 0})
    assert "more than 10,000" in refused(lists.concat, {"lists": [full, [0]]})
    assert "more than 10,000" in refused(lists.flatten, {"items": [full, full]})
    assert "items" in refused(lists.length, {"items": [*full, 0]})
    assert run_node(lists.length, {"items": full})["length"] == MOST


@given(ITEMS, st.integers(0, 20))
def test_repeat(value: Any, count: int) -> None:
    assert run_node(lists.repeat, {"value": value, "count": count})["items"] == [value] * count


def test_choose() -> None:
    assert run_node(choose, {"condition": True, "then": 1, "otherwise": 2})["value"] == 1
    assert run_node(choose, {"condition": False, "then": 1, "otherwise": 2})["value"] == 2
    assert run_node(choose, {"condition": False, "then": 1})["value"] is None
    assert "condition" in refused(choose, {"condition": 1, "then": 1})
