"""MCP servers by url: what is refused and what is worth a warning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hermesd.supervisor.config import ConfigError, load


def written(home: Path, **server: Any) -> None:
    (home / "config.yaml").write_text(json.dumps({"mcp_servers": {"far": server}}))


@pytest.mark.parametrize(
    ("server", "key"),
    [
        ({"url": "example.com/mcp"}, "url"),
        ({"url": "ftp://example.com"}, "url"),
        ({"url": "http://:80/"}, "url"),
        ({"url": "http://[::1/"}, "url"),
        ({"url": "http://x", "client_key": "k"}, "client_key"),
        ({"url": "http://x", "client_cert": "/no/such.pem"}, "client_cert"),
        ({"url": "http://x", "ssl_verify": "/no/such.pem"}, "ssl_verify"),
        ({"url": "http://x", "transport": "websocket"}, "transport"),
        ({"url": "http://x", "auth": "basic"}, "auth"),
        ({"url": "http://x", "keepalive_interval": "1s"}, "keepalive_interval"),
        ({"url": "http://x", "client_cert": ["a", "b", "c", "d"]}, "client_cert"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, server: dict[str, Any], key: str) -> None:
    written(tmp_path, **server)
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, None, {})
    assert f"mcp_servers.far.{key}" in {problem.key for problem in refused.value.problems}


@pytest.mark.parametrize(
    ("server", "keys"),
    [
        ({"url": "https://[::1]:8443/mcp", "headers": {"A": "b"}, "transport": "SSE"}, []),
        ({"url": "https://${NOWHERE}/mcp", "headers": {"A": "Bearer ${KEY}"}}, ["url", "headers.A"]),
        ({"command": "x", "headers": {"A": "b"}, "auth": "oauth"}, ["headers", "auth"]),
        ({"command": "x", "scope": "host", "isolation": "call"}, ["isolation"]),
    ],
)
def test_what_is_odd_is_warned_of(tmp_path: Path, server: dict[str, Any], keys: list[str]) -> None:
    written(tmp_path, **server)
    warned = [problem.key for problem in load(tmp_path, None, {}).warnings]
    assert warned == [f"mcp_servers.far.{key}" for key in keys]
