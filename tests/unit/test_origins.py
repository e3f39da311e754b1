"""Which Host and Origin headers are ours."""

import pytest

from spindle_control.origins import host_allowed, host_name, origin_allowed


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("LocalHost:8420", "localhost"),
        ("[::1]:1", "::1"),
        ("a.example.", "a.example"),
        ("", ""),
        ("[::1", ""),
        ("a:b:c", "a"),
    ],
)
def test_a_host_header_names_a_host(host: str, name: str) -> None:
    assert host_name(host) == name


@pytest.mark.parametrize("host", ["localhost:8420", "127.0.0.1", "127.9.9.9:1", "[::1]:8420", "studio.lan:8420"])
def test_names_of_this_machine_are_answered(host: str) -> None:
    assert host_allowed(host, {"studio.lan"})


@pytest.mark.parametrize(
    "host", ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::1"]
)
def test_other_names_are_not(host: str) -> None:
    assert not host_allowed(host, {"studio.lan"})


def test_our_own_pages_and_allowed_ones_may_call() -> None:
    allowed = {"https://studio.example"}
    assert origin_allowed("http://localhost:8420", "http", "localhost:8420", allowed)
    assert origin_allowed("http://localhost:8420", "ws", "localhost:8420", allowed)
    assert origin_allowed("https://Studio.example", "http", "localhost:8420", allowed)
    for origin in ("null", "", "http://localhost:3000", "https://localhost:8420", "https://studio.example.evil"):
        assert not origin_allowed(origin, "http", "localhost:8420", allowed)
