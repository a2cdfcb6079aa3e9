"""The log's two forms: JSON lines for the file, plain lines for a terminal."""

from __future__ import annotations

import json
import logging

import pytest

from hermesd.supervisor.logs import JsonFormatter, PlainFormatter, Redactor, secrets_of, write_worker_record


def record(text: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("worker", logging.ERROR, "", 0, text, args, None)


def test_secrets_are_blackened_in_both_forms() -> None:
    redactor = Redactor(secrets_of({"BOT_TOKEN": "a-secret", "PATH": "/usr/bin"}))
    for formatter in (JsonFormatter(redactor), PlainFormatter(redactor)):
        text = formatter.format(record("token %s, path %s", "a-secret", "/usr/bin"))
        assert "a-secret" not in text
        assert "token [redacted], path /usr/bin" in text


def test_a_control_character_does_not_reach_the_terminal() -> None:
    text = PlainFormatter(Redactor(())).format(record("one\x1b[2J\n\ttwo\x07\x9b"))
    assert text.endswith("one\\x1b[2J\n\ttwo\\x07\\x9b")


def test_a_line_of_json_is_one_line() -> None:
    line = JsonFormatter(Redactor(())).format(record('two\nlines "quoted"'))
    assert "\n" not in line
    assert json.loads(line)["msg"] == 'two\nlines "quoted"'


def test_a_workers_text_is_kept_as_it_was_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        write_worker_record(1.0, logging.ERROR, "hermesd.worker", "100 % of %s", session="s", turn="t")
    assert caplog.records[0].getMessage() == "100 % of %s"
    line = JsonFormatter(Redactor(())).as_dict(caplog.records[0])
    assert (line["msg"], line["session"], line["turn"]) == ("100 % of %s", "s", "t")
