from __future__ import annotations

from typing import Any

import pytest

from hermesd.adapters.api_server.options import Options, read
from hermesd.adapters.contract import AdapterSettings
from hermesd.adapters.errors import AdapterError


def options(**extra: Any) -> Options:
    return read(AdapterSettings("api_server", extra=extra))


def test_the_default_is_loopback_without_a_key() -> None:
    made = options()
    assert (made.host, made.port, made.key, made.request_timeout) == ("127.0.0.1", 8642, "", None)


def test_values_may_be_strings_as_the_environment_has_them() -> None:
    made = options(port="0", key="k", cors_origins="https://a.example/, https://b.example", request_timeout="2.5")
    assert (made.port, made.request_timeout) == (0, 2.5)
    assert made.cors_origins == {"https://a.example", "https://b.example"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "agent.example.com"])
def test_another_address_than_loopback_needs_a_key(host: str) -> None:
    with pytest.raises(AdapterError, match="without a key") as caught:
        options(host=host)
    assert "API_SERVER_KEY" in caught.value.fix
    assert options(host=host, key="k").host == host


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]"])
def test_loopback_needs_none(host: str) -> None:
    assert options(host=host).on_loopback


def test_every_origin_needs_a_key() -> None:
    with pytest.raises(AdapterError, match="cors_origins"):
        options(cors_origins="*")
    assert "*" in options(cors_origins="*", key="k").cors_origins


@pytest.mark.parametrize(
    ("key", "value"), [("port", 70000), ("port", "http"), ("max_body", 1), ("request_timeout", -1)]
)
def test_a_number_that_cannot_be_is_named(key: str, value: Any) -> None:
    with pytest.raises(AdapterError, match=rf"extra\.{key} is {value!r}: expected a number from"):
        options(**{key: value})


def test_the_key_is_not_in_its_repr() -> None:
    assert "canary" not in repr(options(key="canary"))
