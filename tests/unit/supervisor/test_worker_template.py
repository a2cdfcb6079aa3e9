from __future__ import annotations

from pathlib import Path

import pytest

from hermesd.supervisor.config.settings import McpServer, Settings
from hermesd.supervisor.instance.paths import paths_of
from hermesd.supervisor.worker_template import environment, servers, template


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


@pytest.mark.parametrize(
    ("hang_timeout", "beats"), [("60s", (1.0, 20.0)), ("3s", (0.2, 1.0)), ("1h", (1.0, 20.0)), ("100ms", (0.1, 0.1))]
)
def test_workers_beat_often_enough_to_be_judged_in_time(
    tmp_path: Path, hang_timeout: str, beats: tuple[float, float]
) -> None:
    settings = Settings.model_validate({"hermesd": {"workers": {"hang_timeout": hang_timeout}}})
    spec = template(settings, paths_of(tmp_path, {}), {}, 1.0)
    assert (spec.heartbeat, spec.idle_heartbeat) == pytest.approx(beats)
