"""The log file's handler, with everything it does to a record on the way."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from hermesd.ipc.redaction import Redactor
from hermesd.supervisor.logs.file import Limits, LogFile
from hermesd.supervisor.logs.formats import MAX_TEXT, JsonFormatter
from hermesd.supervisor.logs.repeats import PATIENCE


def handler(path: Path, *secrets: str, **limits: int) -> LogFile:
    return LogFile(path, JsonFormatter(Redactor(secrets)), Limits(**limits))


def record(text: str, *args: object, **fields: Any) -> logging.LogRecord:
    made = logging.LogRecord("x", logging.INFO, "", 0, text, args, None)
    made.__dict__.update(fields)
    return made


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_lines_of_a_session_stand_in_its_file_too(tmp_path: Path) -> None:
    log = handler(tmp_path / "hermesd.log")
    log.handle(record("of all"))
    log.handle(record("of one", session="agent:main:local:dm"))
    log.close()
    assert [line["msg"] for line in lines(tmp_path / "hermesd.log")] == ["of all", "of one"]
    (path,) = (tmp_path / "sessions").iterdir()
    assert [line["msg"] for line in lines(path)] == ["of one"]


def test_a_count_that_waits_is_written_in_time_and_at_the_end(tmp_path: Path) -> None:
    log = handler(tmp_path / "hermesd.log")
    for _ in range(3):
        log.handle(record("same"))
    log.tend(1e12)
    log.handle(record("same"))
    log.close()
    assert [line["msg"] for line in lines(tmp_path / "hermesd.log")] == [
        "same", "repeated 2 times: same", "repeated once more: same",
    ]  # fmt: skip
    assert PATIENCE < 60


def test_a_secret_is_cleaned_before_a_long_text_is_cut(tmp_path: Path) -> None:
    log = handler(tmp_path / "hermesd.log", "hunter22-secret")
    half = MAX_TEXT // 2
    log.handle(record("x" * (half - 5) + "hunter22-secret" + "y" * MAX_TEXT))
    log.close()
    (line,) = lines(tmp_path / "hermesd.log")
    assert "hunter" not in line["msg"]
    assert "characters" in line["msg"]
    assert len(line["msg"]) < MAX_TEXT + 50


def test_lines_that_a_disk_did_not_take_are_told_once_it_does(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    log = handler(directory / "hermesd.log")
    log.handle(record("one"))
    shutil.rmtree(directory)
    log.tend(0.0)
    log.handle(record("lost"))
    log.handle(record("lost too"))
    directory.mkdir()
    log.handle(record("there again"))
    log.close()
    first, second = lines(directory / "hermesd.log")
    assert first["msg"].startswith("2 log lines could not be written: cannot write")
    assert second["msg"] == "there again"


def test_many_lines_stay_within_the_caps(tmp_path: Path) -> None:
    log = handler(tmp_path / "hermesd.log", max_bytes=20_000, backups=2, session_bytes=5_000, sessions=3)
    for number in range(2_000):
        log.handle(record("line %d", number, session=f"s{number % 9}"))
    log.close()
    assert sum(path.stat().st_size for path in tmp_path.glob("hermesd.log*")) <= 60_000
    sessions = list((tmp_path / "sessions").iterdir())
    assert len({path.name.removesuffix(".1") for path in sessions}) == 3
    assert all(path.stat().st_size <= 5_000 for path in sessions)
