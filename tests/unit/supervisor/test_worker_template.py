from __future__ import annotations

from pathlib import Path

import pytest

from hermesd.supervisor.config.settings import McpServer
from hermesd.supervisor.worker_template import environment, servers


def test_the_environment_is_an_allow_list() -> None:
    environ = {
        "PATH": "/bin", "HOME": "/root", "LC_ALL": "C", "XDG_RUNTIME_DIR": "/run", "TZ": "UTC",
        "TELEGRAM_BOT_TOKEN": "secret", "DATABASE_URL": "secret", "HERMESD_TAG": "x", "PATHS": "no",
        "OPENAI_API_KEY": "k",
    }  # fmt: skip
    assert environment(environ, ["OPENAI_*"], Path("/home/x")) == {
        "PATH": "/bin", "HOME": "/root", "LC_ALL": "C", "XDG_RUNTIME_DIR": "/run", "TZ": "UTC", "OPENAI_API_KEY": "k",
        "HERMES_HOME": "/home/x", "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


def test_only_enabled_stdio_servers_are_started(caplog: pytest.LogCaptureFixture) -> None:
    configured = {
        "time": McpServer(command="uvx", args=["mcp-server-time"], env={"A": "1"}, cwd="/tmp"),
        "off": McpServer(command="x", enabled=False),
        "remote": McpServer(url="https://example.org/mcp"),
    }
    (spec,) = servers(configured)
    assert (spec.name, spec.command, spec.args, spec.env, spec.cwd) == (
        "time", "uvx", ("mcp-server-time",), {"A": "1"}, "/tmp",
    )  # fmt: skip
    assert "mcp_servers.remote is reached by url" in caplog.text
