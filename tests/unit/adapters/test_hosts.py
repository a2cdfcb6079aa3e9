from __future__ import annotations

import pytest

from hermesd.adapters.hosts import authority, host_name, is_loopback, means_this_machine, to_bind


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST", "a.localhost"])
def test_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", "localhost.example.org", ""])
def test_not_this_machine(host: str) -> None:
    assert not is_loopback(host)


def test_what_a_page_can_call_itself_is_not_this_machine() -> None:
    assert means_this_machine("localhost:8644", frozenset())
    assert means_this_machine("192.168.1.2:8644", frozenset()), "no DNS answer makes an address mean something else"
    assert not means_this_machine("evil.example:8644", frozenset())
    assert means_this_machine("Hooks.example:8644", frozenset({"hooks.example"}))


def test_addresses() -> None:
    assert [to_bind(host) for host in (None, "", "localhost", "[::1]", "0.0.0.0")] == [
        "127.0.0.1", "127.0.0.1", "127.0.0.1", "::1", "0.0.0.0",
    ]  # fmt: skip
    assert (authority("::1", 1), authority("127.0.0.1", 2)) == ("[::1]:1", "127.0.0.1:2")


@pytest.mark.parametrize(
    ("header", "name"),
    [("127.0.0.1:8642", "127.0.0.1"), ("LocalHost", "localhost"), ("[::1]:80", "::1"), ("", ""), (":80", "")],
)
def test_the_name_of_a_host_header(header: str, name: str) -> None:
    assert host_name(header) == name
