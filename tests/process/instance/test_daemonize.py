"""``--daemon`` with a stand-in program: it returns when that is ready, or with its error and status."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from hermesd.supervisor.instance.daemonize import VARIABLE, Readiness, same_program, start
from hermesd.supervisor.instance.errors import DaemonNotStarted, HomeUnusable

HEAD = """
import json, os, signal, sys, time
from hermesd.supervisor.instance.daemonize import Readiness
readiness = Readiness.from_environment(os.environ)
"""


def launch(tmp_path: Path, program: str, timeout: float = 20.0) -> int:
    environ = {**os.environ, "REPORT": str(tmp_path / "report.json")}
    return start([sys.executable, "-c", HEAD + program], tmp_path / "start.log", timeout, environ)


def end(pid: int) -> None:
    """Kill and reap the stand-in, which is still this process's child."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_it_returns_the_pid_once_the_program_is_ready(tmp_path: Path) -> None:
    pid = launch(tmp_path, "open(os.environ['REPORT'], 'w').write('up'); readiness.ready(os.getpid()); signal.pause()")
    try:
        assert (tmp_path / "report.json").read_text() == "up"
        assert os.getsid(pid) == pid
        assert os.readlink(f"/proc/{pid}/fd/0") == os.devnull
        assert os.readlink(f"/proc/{pid}/fd/1") == os.readlink(f"/proc/{pid}/fd/2") == str(tmp_path / "start.log")
        assert (tmp_path / "start.log").stat().st_mode & 0o777 == 0o600
    finally:
        end(pid)


def test_the_program_has_no_descriptor_of_its_caller(tmp_path: Path) -> None:
    inherited, other = os.pipe()
    os.set_inheritable(inherited, True)
    program = """
import fcntl
def is_open(number):
    try:
        fcntl.fcntl(number, fcntl.F_GETFD)
    except OSError:
        return False
    return True
with open(os.environ["REPORT"], "w") as report:
    others = {number for number in range(1000) if is_open(number)} - {report.fileno(), readiness._descriptor}
    json.dump(sorted(others), report)
readiness.ready(os.getpid())
signal.pause()
"""
    pid = launch(tmp_path, program)
    try:
        assert json.loads((tmp_path / "report.json").read_text()) == [0, 1, 2]
    finally:
        end(pid)
        os.close(inherited)
        os.close(other)


def test_what_the_program_starts_does_not_hold_the_pipe(tmp_path: Path) -> None:
    began = time.monotonic()
    program = """
import subprocess
assert "HERMESD_READY_FD" not in os.environ
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
os._exit(1)  # the child's end of input
"""
    with pytest.raises(DaemonNotStarted, match="ended before it was ready"):
        launch(tmp_path, program)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("status", [1, 73, 78])
def test_an_error_of_the_program_is_handed_on_with_its_status(status: int, tmp_path: Path) -> None:
    with pytest.raises(DaemonNotStarted) as caught:
        launch(tmp_path, f"readiness.failed('another hermesd\\nholds it'); sys.exit({status})")
    assert str(caught.value) == "another hermesd\nholds it"
    assert caught.value.exit_status == status


def test_a_program_that_dies_without_a_word_is_shown_with_its_last_output(tmp_path: Path) -> None:
    with pytest.raises(DaemonNotStarted) as caught:
        launch(tmp_path, "raise SystemExit('boom: no such module')")
    assert str(caught.value) == "hermesd ended before it was ready (exit status 1)\nboom: no such module"
    assert caught.value.exit_status == 1


def test_a_program_that_was_killed_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(DaemonNotStarted, match="killed by signal 9"):
        launch(tmp_path, "os.kill(os.getpid(), 9)")


def test_an_exit_with_0_before_it_was_ready_is_still_a_failure(tmp_path: Path) -> None:
    with pytest.raises(DaemonNotStarted) as caught:
        launch(tmp_path, "sys.exit(0)")
    assert caught.value.exit_status == 1


def test_a_program_that_is_never_ready_is_ended(tmp_path: Path) -> None:
    with pytest.raises(DaemonNotStarted, match=r"not ready within 1 s and was ended\nstill thinking"):
        # Not Python: what is shown has to be there before the second is over.
        start(["sh", "-c", "echo still thinking; exec sleep 60"], tmp_path / "start.log", 1.0, os.environ)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DaemonNotStarted, match="cannot start /no/such/hermesd: No such file or directory"):
        start(["/no/such/hermesd"], tmp_path / "start.log", 5.0, {})


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/etc/motd")
    with pytest.raises(HomeUnusable, match="cannot write the log"):
        start([sys.executable, "-c", ""], tmp_path / "log", 5.0, {})


def test_a_hermesd_that_nobody_waits_for_has_nothing_to_say() -> None:
    for value in ("", "x", "-1", "987654"):
        assert Readiness.from_environment({VARIABLE: value}) is None
    with open(os.devnull) as no_pipe:
        assert Readiness.from_environment({VARIABLE: str(no_pipe.fileno())}) is None


def test_who_waited_and_went_does_not_disturb_the_program() -> None:
    reader, writer = os.pipe()
    readiness = Readiness.from_environment({VARIABLE: str(writer)})
    assert readiness
    os.close(reader)
    readiness.ready(1)
    readiness.failed("once is enough")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(writer)


def test_the_same_program_is_this_one_without_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "dev", "/bin/hermesd", "--daemon", "--home", "h"])
    assert same_program() == [sys.executable, "-X", "dev", "/bin/hermesd", "--home", "h"]
