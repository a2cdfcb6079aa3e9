"""Settings that nothing acts upon yet: who sets one is told, with its place; who sets none hears nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from hermesd.supervisor.config import Loaded, Settings, load
from hermesd.supervisor.config.not_yet import NOT_YET

PHRASE = "is read and has no effect in this version"


def loaded(home: Path, config: str = "", environ: dict[str, str] | None = None) -> Loaded:
    if config:
        (home / "config.yaml").write_text(config, "utf-8")
    return load(home, None, environ or {})


def told(result: Loaded) -> list[tuple[str, int, int, bool]]:
    assert all(PHRASE in problem.message for problem in result.warnings), result.warnings
    return [(p.key, p.origin.line, p.origin.column, p.quiet) for p in result.warnings]


def test_each_key_of_ours_is_told_where_it_stands(tmp_path: Path) -> None:
    result = loaded(
        tmp_path,
        """\
hermesd:
  workers: {hang_timeout: 1m, memory_soft: 1G, memory_hard: 2G, max_processes: 64, max: 8}
  adopt_timeout: 5s
  web:
    port: 9000
""",
    )
    assert told(result) == [
        ("hermesd.web", 5, 5, False),
    ]
    assert {problem.origin.file for problem in result.warnings} == {str(tmp_path / "config.yaml")}


def test_keys_of_hermes_are_one_quiet_word_each(tmp_path: Path) -> None:
    result = loaded(
        tmp_path,
        """\
platforms:
  telegram: {home_channel: {chat_id: 1}, reply_to_mode: all}
session_reset: {mode: idle, idle_minutes: 5, notify: false}
reset_by_type: {dm: {mode: none}}
reset_by_platform: {telegram: {mode: none}}
""",
    )
    assert told(result) == [
        ("session_reset", 3, 16, True),
        ("reset_by_type", 4, 16, True),
        ("reset_by_platform", 5, 20, True),
    ]


def test_a_variable_and_the_older_file_count_as_set(tmp_path: Path) -> None:
    (by_variable,) = loaded(tmp_path, environ={"SESSION_IDLE_MINUTES": "33"}).warnings
    assert (by_variable.key, str(by_variable.origin)) == ("SESSION_IDLE_MINUTES", "environment")
    (tmp_path / "gateway.json").write_text('{"default_reset_policy": {"mode": "daily"}}')
    (by_file,) = loaded(tmp_path).warnings
    assert (by_file.key, by_file.origin.file) == ("session_reset", str(tmp_path / "gateway.json"))


@pytest.mark.parametrize(
    "config", ["", "hermesd: {web: {}}\n", "session_reset:\n", "mcp_servers: {x: {command: y, headers: {}}}\n"]
)
def test_what_is_not_set_is_not_told(config: str, tmp_path: Path) -> None:
    assert loaded(tmp_path, config).warnings == ()


@pytest.mark.parametrize("pattern", NOT_YET)
def test_every_pattern_names_a_setting(pattern: str) -> None:
    found: object = Settings.model_json_schema(by_alias=True)
    definitions = found["$defs"]  # type: ignore[index]
    for part in pattern.split("."):
        assert isinstance(found, dict)
        found = found["additionalProperties"] if part == "*" else found["properties"][part]
        if "$ref" in found:
            found = definitions[found["$ref"].rpartition("/")[2]]
