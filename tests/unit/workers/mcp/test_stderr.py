"""What servers write to stderr is kept within a cap, and its end is known for the reason of a crash."""

import os
import stat

from hermesd.workers.mcp.stderr import LAST_LINES, StderrLog, log_path


def test_the_file_is_rotated_once_at_its_cap(tmp_path):
    path = tmp_path / "mcp-a.log"
    log = StderrLog(path, cap=1000)
    for number in range(100):
        log.write(b"%090d\n" % number)
    assert path.stat().st_size <= 1000
    older = tmp_path / "mcp-a.log.1"
    assert older.stat().st_size <= 1000
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mcp-a.log", "mcp-a.log.1"]
    assert path.read_text().endswith("99\n")


def test_one_write_beyond_the_cap_keeps_its_end(tmp_path):
    log = StderrLog(tmp_path / "a.log", cap=100)
    log.write(b"x" * 5000 + b"end")
    assert (tmp_path / "a.log").read_bytes() == b"x" * 97 + b"end"


def test_only_the_owner_may_read_it(tmp_path):
    log = StderrLog(tmp_path / "a.log")
    log.write(b"secret\n")
    assert stat.S_IMODE(os.stat(tmp_path / "a.log").st_mode) == 0o600


def test_the_last_lines_are_printable_and_few():
    log = StderrLog(None)
    log.write(b"".join(b"line %d\n" % number for number in range(50)))
    log.write(b"\n  \n\x1b[31mred\xff\nhalf a li")
    shown = log.last_lines()
    assert shown.count(" | ") == LAST_LINES - 1
    assert shown.endswith("line 49 |  [31mred\N{REPLACEMENT CHARACTER} | half a li")
    assert shown.isprintable()


def test_a_new_generation_forgets_the_last_lines_of_the_one_before(tmp_path):
    log = StderrLog(tmp_path / "a.log")
    log.write(b"old\n")
    log.begin("generation 2")
    assert log.last_lines() == ""
    assert (tmp_path / "a.log").read_text() == "old\n--- generation 2\n"


def test_a_directory_that_is_gone_costs_the_log_and_nothing_else(tmp_path):
    log = StderrLog(tmp_path / "gone" / "a.log")
    log.write(b"words\n")
    assert log.last_lines() == "words"
    assert "cannot write" in log.error


def test_a_server_name_cannot_leave_the_directory():
    assert log_path("/logs", "../../etc/x y").as_posix() == "/logs/mcp-.._.._etc_x_y.log"
