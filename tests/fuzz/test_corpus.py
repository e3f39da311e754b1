"""Every case that the fuzzer kept, judged again; and a short hunt, so that the hunter itself works."""

import random

import pytest

from fuzz.hunt import corpus, examples, verdict
from fuzz.judging import WrongError, resolves
from fuzz.mutating import mutated

CASES = corpus()


def test_nothing_in_the_corpus_is_wrong() -> None:
    found = {name: wrong for name, case in CASES.items() if (wrong := verdict(case)[1])}
    assert found == {}


def test_a_short_hunt_finds_nothing() -> None:
    rng = random.Random(4)
    cases = [*CASES.values(), *examples()]
    for _ in range(150):
        case = mutated(rng.choice(cases), cases, rng)
        assert (verdict(case)[1], case) == (None, case)


def test_the_corpus_stays_small() -> None:
    assert sum(len(repr(case)) for case in CASES.values()) < 1 << 20


def test_pointers_name_what_is_there() -> None:
    document = {"a/b": [{"~": 1}], "c": {}}
    assert [resolves(at, document) for at in ("", "/a~1b/0/~0", "/c")] == [True, True, True]
    assert [resolves(at, document) for at in ("/a~1b/1", "/a~1b/-1", "/c/d", "/c/d/e")] == [False] * 4


def test_what_does_not_hold_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.judging.SECONDS", -1.0)
    _, wrong = verdict({"document": {}})
    assert wrong is not None
    assert wrong.startswith(WrongError.__name__)
