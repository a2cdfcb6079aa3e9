from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hermesd.supervisor import logs
from hermesd.supervisor.config import Settings
from hermesd.supervisor.secrets import secrets_in


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield logger
    for handler in list(logger.handlers):
        if handler not in handlers:
            handler.close()
    logger.handlers[:] = handlers
    logger.setLevel(level)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_every_line_is_json_and_no_secret_is_in_it(tmp_path: Path, root: logging.Logger) -> None:
    path = tmp_path / "deep" / "hermesd.log"
    logs.install(path, "INFO", ["hunter22"], terminal=False)
    log = logging.getLogger("hermesd.x")
    log.info("logged in with %s", "hunter22", extra={"session": "s1", "turn": ""})
    log.debug("not this")
    try:
        raise ValueError("hunter22 is wrong")
    except ValueError:
        log.exception("two\nlines")
    first, second = lines(path)
    assert first["msg"] == "logged in with [redacted]"
    assert (first["level"], first["logger"], first["session"]) == ("INFO", "hermesd.x", "s1")
    assert "turn" not in first
    assert first["ts"].endswith("Z")
    assert "ValueError: [redacted] is wrong" in second["msg"]
    assert "hunter22" not in path.read_text()


def test_text_that_is_no_unicode_is_written_all_the_same(tmp_path: Path, root: logging.Logger) -> None:
    path = tmp_path / "hermesd.log"
    logs.install(path, "INFO", [], terminal=False)
    logging.getLogger("x").warning("file \udcff")
    (line,) = lines(path)
    assert line["msg"].startswith("file ")


def test_the_tail_keeps_the_last_warnings(tmp_path: Path, root: logging.Logger) -> None:
    tail = logs.install(tmp_path / "l", "DEBUG", [], terminal=False)
    for number in range(50 + 5):
        logging.getLogger("x").warning("%d", number)
        logging.getLogger("x").info("not kept")
    assert [line["msg"] for line in tail.lines] == [str(number) for number in range(5, 50 + 5)]


def test_a_workers_record_keeps_its_own_time_and_is_not_formatted_again(tmp_path: Path, root: logging.Logger) -> None:
    path = tmp_path / "l"
    logs.install(path, "INFO", [], terminal=False)
    logs.write_worker_record(1_700_000_000.5, logging.WARNING, "agent", "100% %s %d", worker="w1", pid=7)
    logs.write_worker_record(0.0, logging.DEBUG, "agent", "not this")
    (line,) = lines(path)
    assert line == {
        "ts": "2023-11-14T22:13:20.500Z", "level": "WARNING", "logger": "agent", "msg": "100% %s %d", "worker": "w1",
        "pid": 7,
    }  # fmt: skip


def test_the_terminal_gets_plain_redacted_lines(
    tmp_path: Path, root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.install(tmp_path / "l", "INFO", ["hunter22"], terminal=True)
    logging.getLogger("x").info("hunter22")
    assert capsys.readouterr().err.endswith("INFO    x: [redacted]\n")


def test_what_is_a_secret() -> None:
    environ = {
        "TELEGRAM_BOT_TOKEN": "123:abc",
        "MY_SECRET": "short",
        "db_password": "longer-than-that",
        "API_SERVER_KEY": "abcdef",
        "PATH": "/usr/bin:/bin",
    }
    assert logs.secrets_of(environ, ["from-yaml"]) == ("longer-than-that", "from-yaml", "123:abc", "abcdef")


@pytest.mark.parametrize(
    "name",
    ["GITHUB_PAT", "PAT", "MY_PAT_2", "PGPASSWD", "AWS_CREDENTIALS", "GCP_CREDENTIAL", "SSH_PRIVATE_KEY", "x-api-key",
     "accessToken"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert logs.names_a_secret(name)


@pytest.mark.parametrize("name", ["PATH", "PYTHONPATH", "PATTERN", "COMPAT", "HOME", "KEYBOARD"])
def test_names_of_no_secrets(name: str) -> None:
    assert not logs.names_a_secret(name)


def test_the_password_in_a_url_is_a_secret_and_the_rest_of_it_is_not() -> None:
    environ = {
        "DATABASE_URL": "postgres://app:hunter22@db/x",
        "REDIS_URL": "redis://:hunter33@r:1",
        "U": "http://a:80/",
    }
    assert logs.secrets_of(environ) == ("hunter22", "hunter33")


def test_the_configuration_has_secrets_too() -> None:
    settings = Settings.model_validate(
        {
            "platforms": {
                "api_server": {"api_key": "api-key-1", "extra": {"host": "127.0.0.1", "cors_key": "extra-key"}},
                "irc": {
                    "token": "token-1",
                    "extra": {"sasl": {"password": "sasl-pass"}, "tokens": ["list-1", "list-2"], "nick": "no-secret"},
                },
            },
            "mcp_servers": {"s": {"env": {"ANY": "env-value"}, "headers": {"Authorization": "Bearer abc-def"}}},
        }
    )
    assert set(secrets_in(settings)) == {
        "api-key-1", "extra-key", "", "token-1", "sasl-pass", "list-1", "list-2", "env-value", "Bearer abc-def",
        "abc-def",
    }  # fmt: skip


def test_a_record_whose_arguments_do_not_fit_costs_its_caller_nothing(
    tmp_path: Path, root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    tail = logs.install(tmp_path / "l", "INFO", [], terminal=False)
    logging.getLogger("x").warning("%d of %d", "one")
    logging.getLogger("x").warning("the next one")
    assert [line["msg"] for line in tail.lines] == ["the next one"]
    assert [line["msg"] for line in lines(tmp_path / "l")] == ["the next one"]
    assert "%d of %d" in capsys.readouterr().err
