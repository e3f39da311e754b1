"""`If-Match` and `If-None-Match` as RFC 9110 reads them."""

import pytest
from starlette.datastructures import Headers

from spindle_common.problems import InvalidRequest
from spindle_control.conditions import Condition, etag_of

ETAG = etag_of("sha256:1")


def condition(**headers: str | list[str]) -> Condition:
    given = [(name, each) for name, found in headers.items() for each in ([found] if isinstance(found, str) else found)]
    return Condition.of(Headers(raw=[(name.replace("_", "-").encode(), text.encode()) for name, text in given]))


@pytest.mark.parametrize(
    ("text", "there", "nothing"),
    [
        ("*", True, False),
        ('"sha256:1"', True, False),
        ('"sha256:2"', False, False),
        ('"a,b" ,"sha256:1"', True, False),
        ('W/"sha256:1"', False, False),
    ],
)
def test_if_match_compares_strongly(text: str, there: bool, nothing: bool) -> None:
    assert condition(if_match=text).holds(ETAG) is there
    assert condition(if_match=text).holds(None) is nothing


@pytest.mark.parametrize(
    ("text", "there"), [("*", False), ('"sha256:1"', False), ('W/"sha256:1"', False), ('"sha256:2"', True)]
)
def test_if_none_match_compares_weakly(text: str, there: bool) -> None:
    assert condition(if_none_match=text).holds(ETAG) is there
    assert condition(if_none_match=text).holds(None) is True
    assert condition(if_none_match=text).knows(ETAG) is not there


def test_no_condition_always_holds() -> None:
    assert condition().holds(ETAG)
    assert condition().holds(None)
    assert not condition().knows(ETAG)


def test_a_header_may_stand_more_than_once() -> None:
    assert condition(if_match=['"sha256:2"', '"sha256:1"']).holds(ETAG)


@pytest.mark.parametrize("text", ["", "sha256:1", '"sha256:1', '*, "a"', '"a" "b"', ",", "w/'a'"])
def test_what_is_no_entity_tag_is_refused(text: str) -> None:
    for name in ("if_match", "if_none_match"):
        with pytest.raises(InvalidRequest) as refused:
            condition(**{name: text})
        assert refused.value.errors[0].code == "bad-etag"
