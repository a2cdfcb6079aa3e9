from __future__ import annotations

from typing import Any

import pytest

from hermesd.supervisor.config.diff import TABLE, Changes, How, diff, hold, how_of, keys
from hermesd.supervisor.config.settings import Settings

SECTIONS = {
    "hermesd.logs", "hermesd.web", "agent", "model", "approvals", "platforms.*", "mcp_servers.*", "session_reset",
    "reset_by_type.*", "reset_by_platform.*", "streaming", "access",
}  # fmt: skip


def settings(**values: Any) -> Settings:
    return Settings.model_validate(values)


def test_every_key_of_the_settings_has_a_row_of_its_own_or_of_its_section() -> None:
    for key in keys():
        row = next(row for row in (key, *SECTIONS) if row in TABLE and f"{key}.".startswith(f"{row}."))
        assert how_of(key) is TABLE[row]


def test_every_row_is_a_key_or_a_section() -> None:
    assert [row for row in TABLE if not any(f"{key}.".startswith(f"{row}.") for key in keys())] == []
    assert TABLE.keys() >= SECTIONS


def test_the_same_settings_are_no_change() -> None:
    one = settings(hermesd={"workers": {"max": 3}}, mcp_servers={"a": {"command": "a"}})
    assert not diff(one, one.model_copy(deep=True))


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({}, {"hermesd": {"workers": {"max": 3, "idle_timeout": "5m"}, "busy": "steer"}},
         Changes(live=("hermesd.workers.max", "hermesd.workers.idle_timeout", "hermesd.busy"))),
        ({}, {"hermesd": {"agent_settings": {"a": 1}, "workers": {"env": ["A"]}}},
         Changes(new_workers=("hermesd.agent_settings", "hermesd.workers.env"))),
        ({}, {"hermesd": {"agent": "a:b", "stop_budget": "9s", "workers": {"start_by": "exec"}}},
         Changes(restart=("hermesd.agent", "hermesd.workers.start_by", "hermesd.stop_budget"))),
        ({}, {"mcp_servers": {"a": {"command": "a"}}}, Changes(next_idle=("mcp_servers.a",))),
        ({"mcp_servers": {"a": {"command": "a"}}}, {}, Changes(next_idle=("mcp_servers.a",))),
        ({"mcp_servers": {"a": {"command": "a"}, "b": {"command": "b"}}},
         {"mcp_servers": {"a": {"command": "c", "tools": {"include": ["x"]}}, "b": {"command": "b"}}},
         Changes(next_idle=("mcp_servers.a.command", "mcp_servers.a.tools.include"))),
        ({"platforms": {"fake": {}}}, {"platforms": {"fake": {"enabled": True}, "local": {}}},
         Changes(restart=("platforms.fake.enabled", "platforms.local"))),
        ({}, {"access": {"allowed": {"fake": ["me"]}, "allow_all": ["local"], "gateway_allowed": ["you"]}},
         Changes(live=("FAKE_ALLOWED_USERS", "LOCAL_ALLOW_ALL_USERS", "GATEWAY_ALLOWED_USERS"))),
        ({}, {"model": {"default": "m"}, "fallback_providers": [{"model": "n"}], "agent": {"max_turns": 3}},
         Changes(live=("agent.max_turns", "model.default", "fallback_providers"))),
        ({}, {"session_reset": {"mode": "none"}}, Changes(no_effect=("session_reset.mode",))),
    ],
)  # fmt: skip
def test_a_change_is_named_by_its_key_and_by_when_it_applies(
    before: dict[str, Any], after: dict[str, Any], changes: Changes
) -> None:
    assert diff(settings(**before), settings(**after)) == changes


def test_what_needs_a_restart_is_held_back_and_named_again_by_the_next_reload() -> None:
    running = settings(hermesd={"agent": "demo", "workers": {"max": 2}}, platforms={"fake": {"enabled": True}})
    wanted = settings(hermesd={"agent": "a:b", "workers": {"max": 3, "start_by": "exec"}, "web": {"port": 1}})
    held = hold(running, wanted)
    assert (held.hermesd.agent, held.hermesd.workers.start_by, held.hermesd.web.port) == ("demo", "fork", 8641)
    assert (held.hermesd.workers.max, held.platforms["fake"].enabled) == (3, True)
    again = diff(held, wanted)
    assert again.live == again.new_workers == ()
    assert set(again.restart) == {"hermesd.agent", "hermesd.workers.start_by", "platforms.fake"}
    assert hold(held, running) == running


def test_every_way_to_apply_is_used() -> None:
    assert set(TABLE.values()) == set(How)
