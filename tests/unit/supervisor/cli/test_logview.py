"""Choosing lines of the log, and following it through rotations."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hermesd.supervisor.cli.logview import Choice, Tail, last, parse, rotated, text_line
from hermesd.supervisor.cli.render import Paint


def line(number: int, **more: Any) -> dict[str, Any]:
    return {"ts": f"2026-11-22T18:00:{number:02d}Z", "level": "INFO", "logger": "x", "msg": f"m{number}", **more}


def write(path: Path, *lines: dict[str, Any]) -> None:
    with path.open("a") as stream:
        stream.writelines(json.dumps(each) + "\n" for each in lines)


def messages(lines: list[dict[str, Any]]) -> list[str]:
    return [each["msg"] for each in lines]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Three files: m0 to m3, m4 to m6, m7 to m9."""
    path = tmp_path / "hermesd.log"
    write(tmp_path / "hermesd.log.2", *(line(n) for n in range(4)))
    write(tmp_path / "hermesd.log.1", *(line(n) for n in range(4, 7)))
    write(path, *(line(n) for n in range(7, 10)))
    return path


def test_the_last_lines_are_taken_across_rotations(log: Path) -> None:
    assert messages(last(log, Choice(), 2)) == ["m8", "m9"]
    assert messages(last(log, Choice(), 5)) == ["m5", "m6", "m7", "m8", "m9"]
    assert messages(last(log, Choice(), 99)) == [f"m{n}" for n in range(10)]
    assert messages(last(log, Choice(), 0)) == []


def test_lines_count_after_they_were_chosen(log: Path) -> None:
    write(log, line(11, level="ERROR"), line(12), line(13))
    assert messages(last(log, Choice(level="WARNING"), 1)) == ["m11"]


def test_since_ends_the_search(log: Path) -> None:
    choice = Choice(since=datetime(2026, 11, 22, 18, 0, 5, tzinfo=UTC))
    assert messages(last(log, choice, 99)) == ["m5", "m6", "m7", "m8", "m9"]


def test_long_lines_are_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "hermesd.log"
    write(path, *(line(n, pad="é" * 100_000) for n in range(3)))
    assert messages(last(path, Choice(), 2)) == ["m1", "m2"]


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        (Choice(session="agent:main:local:dm"), True),
        (Choice(session="local:dm"), True),
        (Choice(session="w3"), True),
        (Choice(session="t9"), True),
        (Choice(session="cal:dm"), False),
        (Choice(session="w4"), False),
        (Choice(level="WARNING"), True),
        (Choice(level="ERROR"), False),
        (Choice(pattern=re.compile("broke")), True),
        (Choice(pattern=re.compile("^it$")), False),
    ],
)
def test_what_is_chosen(choice: Choice, wanted: bool) -> None:
    record = line(1, level="WARNING", msg="it broke", session="agent:main:local:dm", worker="w3", turn="t9")
    assert choice.wants(record) is wanted


def test_a_line_that_is_no_json_is_shown_as_a_message() -> None:
    assert parse(b"Fatal Python error: Aborted \xff\n")["msg"] == "Fatal Python error: Aborted \ufffd"
    assert parse(b"[1, 2]")["msg"] == "[1, 2]"


def test_a_record_for_people() -> None:
    shown = text_line({"ts": "", "level": "ERROR", "session": "s", "msg": "first\nsecond \x1b[2J"}, Paint(on=False))
    assert shown == "- ERROR    s: first\n    second \\x1b[2J"
    assert "\x1b[31mERROR" in text_line({"level": "ERROR", "msg": ""}, Paint(on=True))


def test_following_goes_through_a_rotation_without_losing_a_line(log: Path) -> None:
    tail = Tail(log)
    last(log, Choice(), 0, tail)
    write(log, line(10))
    assert messages(tail.read()) == ["m10"]
    write(log, line(11))
    log.rename(log.with_name("hermesd.log.1"))
    write(log.with_name("hermesd.log.1"), line(12))
    assert messages(tail.read()) == ["m11", "m12"]
    write(log, line(13))
    assert messages(tail.read()) == ["m13"]
    tail.close()


def test_following_gives_a_line_only_when_it_is_whole(log: Path) -> None:
    with log.open("a") as stream:
        stream.write('{"msg": "ha')
    tail = Tail(log)
    last(log, Choice(), 0, tail)
    assert tail.read() == []
    with log.open("a") as stream:
        stream.write('lf"}\n')
    assert messages(tail.read()) == ["half"]
    tail.close()


def test_following_a_file_that_is_cut_begins_anew(log: Path) -> None:
    tail = Tail(log)
    last(log, Choice(), 0, tail)
    log.write_text("")
    write(log, line(20))
    assert messages(tail.read()) == ["m20"]
    tail.close()


def test_following_waits_for_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "hermesd.log"
    tail = Tail(path)
    assert tail.read() == []
    write(path, line(1))
    assert messages(tail.read()) == ["m1"]
    tail.close()


def test_a_missing_file_in_the_middle_of_a_rotation_hides_no_older_ones(log: Path) -> None:
    log.unlink()
    assert [path.name for path in rotated(log)] == ["hermesd.log.1", "hermesd.log.2"]
