from __future__ import annotations

import json
import os
from pathlib import Path

import dotenv
import pytest

from hermesd.supervisor.config.loader import Loaded, load
from hermesd.supervisor.hermes_home import is_platforms, variables, write

CANARIES = [
    "TELEGRAM_BOT_TOKEN", "DISCORD_BOT_TOKEN", "MATRIX_ACCESS_TOKEN", "MATRIX_PASSWORD", "SLACK_BOT_TOKEN",
    "SLACK_APP_TOKEN", "WHATSAPP_TOKEN", "API_SERVER_KEY", "EMAIL_PASSWORD", "TWILIO_AUTH_TOKEN", "HASS_TOKEN",
    "WEBHOOK_SECRET", "HERMES_TELEGRAM_PROXY", "MATTERMOST_TOKEN", "FEISHU_APP_SECRET", "DISCORD_API_KEY",
    "DATABASE_URL", "MY_PASSWORD", "HERMES_VAULT_TOKEN",
]  # fmt: skip


def canary(name: str) -> str:
    return f"canary-{name.lower()}"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    lines = [f"{name}={canary(name)}" for name in CANARIES]
    (tmp_path / ".env").write_text("\n".join([*lines, "OPENROUTER_API_KEY='sk-or-1'", "EXA_API_KEY=exa", "MINE=me"]))
    config = {
        "hermesd": {"agent": "hermes", "workers": {"env": ["MINE"]}},
        "model": {"default": "gpt", "api_key": "${MINE}", "base_url": "http://${TELEGRAM_BOT_TOKEN}"},
        "approvals": {"timeout": "2m", "mode": "manual"},
        "command_allowlist": ["ls"],
        "platforms": {"telegram": {"token": "canary-in-the-file"}},
        "discord": {"token": "canary-in-the-file"},
        "gateway": {"token": "canary-in-the-file"},
        "mcp_servers": {"github": {"command": "gh", "env": {"TOKEN": "canary-in-the-file"}}},
        "secrets": {"bitwarden": {"enabled": True}},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    return tmp_path


def view_of(home: Path) -> tuple[Loaded, Path]:
    loaded = load(home, None, {"PATH": os.environ["PATH"]})
    view = home / "hermesd" / "hermes-home"
    write(loaded, home, view)
    return loaded, view


def test_no_token_of_a_platform_is_in_any_file_of_the_view(home: Path) -> None:
    _, view = view_of(home)
    for path in view.rglob("*"):
        if path.is_file():
            assert "canary" not in path.read_text(), path
            assert path.stat().st_mode & 0o077 == 0


def test_what_is_the_agents_is_there(home: Path) -> None:
    _, view = view_of(home)
    config = json.loads((view / "config.yaml").read_text())
    assert config["model"] == {"default": "gpt", "api_key": "me", "base_url": "http://${TELEGRAM_BOT_TOKEN}"}
    assert config["approvals"] == {"timeout": 120, "gateway_timeout": 120, "mode": "manual"}
    assert config.keys() == {"model", "approvals", "command_allowlist"}
    assert dotenv.dotenv_values(view / ".env") == {"OPENROUTER_API_KEY": "sk-or-1", "EXA_API_KEY": "exa", "MINE": "me"}


def test_the_agents_folders_are_those_of_the_home(home: Path) -> None:
    (home / "SOUL.md").write_text("kind")
    _, view = view_of(home)
    (view / "memories" / "MEMORY.md").write_text("a fact")
    assert (home / "memories" / "MEMORY.md").read_text() == "a fact"
    assert (view / "SOUL.md").read_text() == "kind"
    assert not (view / "auth.json").is_symlink()
    (home / "SOUL.md").unlink()
    view_of(home)
    assert not (view / "SOUL.md").is_symlink()


def test_what_a_user_has_approved_for_ever_outlives_a_reload(home: Path) -> None:
    _, view = view_of(home)
    # hermes-agent writes the whole configuration anew, as YAML.
    (view / "config.yaml").write_text("command_allowlist:\n- ls\n- recursive delete\n")
    view_of(home)
    assert json.loads((view / "config.yaml").read_text())["command_allowlist"] == ["ls", "recursive delete"]


def test_an_unchanged_file_is_left_alone(home: Path) -> None:
    _, view = view_of(home)
    before = (view / "config.yaml").stat().st_ino
    view_of(home)
    assert (view / "config.yaml").stat().st_ino == before


def test_a_value_is_read_back_as_it_was(home: Path) -> None:
    (home / ".env").write_text('A_API_KEY="it\'s \\\\ a $HOME"\n')
    loaded, view = view_of(home)
    assert dotenv.dotenv_values(view / ".env")["A_API_KEY"] == loaded.environ["A_API_KEY"]


def test_a_platforms_variable_is_let_through_by_its_whole_name_only() -> None:
    environ = {"TELEGRAM_BOT_TOKEN": "t", "DISCORD_BOT_TOKEN": "d"}
    assert variables(environ, ["*"]) == {}
    assert variables(environ, ["DISCORD_BOT_TOKEN"]) == {"DISCORD_BOT_TOKEN": "d"}
    assert is_platforms("HERMES_MATRIX_X")
    assert not is_platforms("HERMES_MODEL")
