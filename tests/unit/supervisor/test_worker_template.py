from __future__ import annotations

import os
from pathlib import Path

import pytest

from hermesd.ipc.mcp import Sampling, Tls
from hermesd.supervisor.config.settings import McpServer, Settings
from hermesd.supervisor.instance.paths import paths_of
from hermesd.supervisor.worker_template import environment, preload, servers, template


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


def test_only_enabled_servers_are_told() -> None:
    configured = {
        "time": McpServer(command="uvx", args=["mcp-server-time"], env={"A": "1"}, cwd="/tmp"),
        "off": McpServer(command="x", enabled=False),
        "remote": McpServer(url=" https://example.org/mcp ", command="x", transport="sse", headers={"A": "b"}),
    }
    time, remote = servers(configured)
    assert (time.name, time.command, time.args, time.env, time.cwd) == (
        "time", "uvx", ("mcp-server-time",), {"A": "1"}, "/tmp",
    )  # fmt: skip
    assert (remote.url, remote.command, remote.transport) == ("https://example.org/mcp", "", "sse")
    assert (remote.headers, remote.tls, remote.shared, remote.oauth) == ({"A": "b"}, None, False, False)


def test_a_server_is_told_as_it_is_configured() -> None:
    written = {
        "url": "https://example.org/mcp", "transport": "Streamable-HTTP", "auth": "oauth", "isolation": "shared",
        "ssl_verify": False, "client_cert": ["~/c.pem", "~/k.pem", "p"], "tools": {"resources": False},
        "sampling": {"model": "m", "max_rpm": 3, "log_level": "Debug"}, "keepalive_interval": "1m",
    }  # fmt: skip
    (spec,) = servers({"far": McpServer.model_validate(written)})
    home = os.path.expanduser("~")
    assert spec.tls == Tls(False, "", f"{home}/c.pem", f"{home}/k.pem", "p")
    assert (spec.transport, spec.oauth, spec.shared, spec.fresh) == ("http", True, True, False)
    assert (spec.resources, spec.prompts, spec.keepalive) == (False, True, 60.0)
    assert spec.sampling == Sampling(model="m", per_minute=3, log_level="DEBUG")
    (mute,) = servers({"far": McpServer.model_validate({"url": "http://x", "sampling": {"enabled": False}})})
    assert mute.sampling is None
    assert preload([spec]) == ("hermesd.workers.mcp.server", "hermesd.workers.mcp.remote")
    assert preload([]) == ()


@pytest.mark.parametrize(
    ("hang_timeout", "beats"), [("60s", (1.0, 20.0)), ("3s", (0.2, 1.0)), ("1h", (1.0, 20.0)), ("100ms", (0.1, 0.1))]
)
def test_workers_beat_often_enough_to_be_judged_in_time(
    tmp_path: Path, hang_timeout: str, beats: tuple[float, float]
) -> None:
    settings = Settings.model_validate({"hermesd": {"workers": {"hang_timeout": hang_timeout}}})
    spec = template(settings, paths_of(tmp_path, {}), {}, 1.0)
    assert (spec.heartbeat, spec.idle_heartbeat) == pytest.approx(beats)
