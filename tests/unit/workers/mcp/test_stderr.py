"""What servers write to stderr is kept within a cap, and its end is known for the reason of a crash."""

import os
import stat

from hermesd.ipc.redaction import Redactor
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
    log.end()
    assert (tmp_path / "a.log").read_bytes() == b"x" * 96 + b"end\n"


def test_what_comes_too_fast_is_counted_and_its_end_remembered(tmp_path):
    log = StderrLog(tmp_path / "a.log")
    log.write(b"kept\nits beginning")
    log.skip(b"x" * 5000)
    log.skip(b"\nmore\nthe last wo")
    assert log.last_lines().endswith("more | the last wo")
    log.write(b"rds\nquiet again\n")
    assert (tmp_path / "a.log").read_text().splitlines() == [
        "kept", "its beginning", "--- 5017 bytes came too fast and are not kept", "the last words", "quiet again",
    ]  # fmt: skip


def test_a_secret_is_found_in_a_line_that_came_in_two_pieces(tmp_path):
    log = StderrLog(tmp_path / "a.log", redactor=Redactor(["hunter22-key"]))
    log.begin("generation 1: server --key hunter22-key")
    log.write(b"connected with hunter22")
    log.write(b"-key as guest, Authorization: Bearer abc123def456\nhunter22-key")
    assert log.last_lines() == "connected with [redacted] as guest, Authorization: Bearer [redacted] | [redacted]"
    log.end()
    assert (tmp_path / "a.log").read_text().splitlines() == [
        "--- generation 1: server --key [redacted]",
        "connected with [redacted] as guest, Authorization: Bearer [redacted]",
        "[redacted]",
    ]


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
