"""``--replace``: the holder of a home is ended, politely first, and nobody else is ever touched."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hermesd.supervisor.instance import lock, pidfile, replacing
from hermesd.supervisor.instance.errors import InstanceError
from hermesd.supervisor.instance.paths import Paths, paths_of

HOLDER = """
import signal, sys, time
from pathlib import Path
from hermesd.supervisor.instance import lock, pidfile
from hermesd.supervisor.instance.paths import paths_of
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
paths = paths_of(Path(sys.argv[1]), {})
paths.prepare()
held = lock.acquire(paths)
pidfile.write(paths.pid_file, pidfile.own_record(paths.control_socket))
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = paths_of(tmp_path / "home", {})
    (tmp_path / "home").mkdir()
    made.prepare()
    return made


@pytest.fixture
def hold(paths: Paths) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    made: list[subprocess.Popen[str]] = []

    def hold(how: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(paths.home), how], stdout=subprocess.PIPE, text=True
        )
        made.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in made:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_nobody_holds_it(paths: Paths) -> None:
    replacing.end_holder(paths, 1.0)


def test_a_holder_that_obeys_is_ended_by_sigterm(paths: Paths, hold: Callable[[str], subprocess.Popen[str]]) -> None:
    process = hold("polite")
    replacing.end_holder(paths, 10.0)
    assert not lock.is_held(paths.lock)
    assert process.wait(30) == -signal.SIGTERM


def test_one_that_does_not_is_killed_when_its_time_is_over(
    paths: Paths, hold: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = hold("deaf")
    began = time.monotonic()
    replacing.end_holder(paths, 0.2)
    assert 0.2 <= time.monotonic() - began < 20.0
    assert process.wait(30) == -signal.SIGKILL


def test_a_process_that_only_stands_in_an_old_pid_file_is_not_touched(paths: Paths) -> None:
    other = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    assert other.stdin is not None
    try:
        pidfile.write(paths.pid_file, pidfile.Record(other.pid))
        replacing.end_holder(paths, 0.1)
        assert other.poll() is None
    finally:
        other.stdin.close()
        other.wait()


def test_a_holder_that_has_not_said_its_pid_is_left_alone(
    paths: Paths, hold: Callable[[str], subprocess.Popen[str]]
) -> None:
    process = hold("polite")
    paths.pid_file.unlink()
    paths.lock.write_bytes(b"")
    with pytest.raises(InstanceError, match="has not said its pid yet"):
        replacing.end_holder(paths, 0.1)
    assert process.poll() is None
