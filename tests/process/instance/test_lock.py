"""The lock between real processes: one wins, the winner is named, and no old PID file keeps anybody from starting."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness.figures import StopWatch

from hermesd.supervisor.instance import lock, pidfile
from hermesd.supervisor.instance.errors import AlreadyRunning, HomeUnusable
from hermesd.supervisor.instance.lock import Standing, describe
from hermesd.supervisor.instance.paths import Paths, paths_of
from hermesd.supervisor.instance.pidfile import Record

# Waits for a byte (so that several start at the same moment), takes the lock, says who won, holds it until stdin ends.
HOLDER = """
import os, sys
from pathlib import Path
from hermesd.supervisor.instance import lock
from hermesd.supervisor.instance.errors import AlreadyRunning
from hermesd.supervisor.instance.paths import paths_of
paths = paths_of(Path(sys.argv[1]), {})
paths.prepare()
print("ready", flush=True)
os.read(0, 1)
try:
    held = lock.acquire(paths)
except AlreadyRunning as error:
    print(f"lost {error.pid}", flush=True)
    sys.exit(73)
print(f"won {os.getpid()}", flush=True)
os.read(0, 1)
"""


class Holder:
    def __init__(self, home: Path):
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdin
        assert self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        assert self.stdout.readline() == "ready\n"

    def go(self) -> None:
        self.stdin.write("x")
        self.stdin.flush()

    def verdict(self) -> tuple[str, int]:
        word, pid = self.stdout.readline().split()
        return word, int(pid)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.stdin.close()
        self.stdout.close()


@pytest.fixture
def paths(home: Path) -> Iterator[Paths]:
    made = paths_of(home, {})
    made.prepare()
    yield made
    made.clear_sockets(remove=True)


@pytest.fixture
def holder(home: Path) -> Iterator[Holder]:
    made = Holder(home)
    made.go()
    assert made.verdict() == ("won", made.process.pid)
    yield made
    made.close()


def test_of_two_at_once_one_wins_and_the_other_names_it(home: Path) -> None:
    for _ in range(20):
        two = [Holder(home), Holder(home)]
        try:
            for one in two:
                one.go()
            verdicts = [one.verdict() for one in two]
            [winner] = [one.process.pid for one, (word, _) in zip(two, verdicts, strict=True) if word == "won"]
            assert sorted(verdicts) == [("lost", winner), ("won", winner)]
        finally:
            for one in two:
                one.close()
    paths_of(home, {}).clear_sockets(remove=True)


def test_a_killed_holder_leaves_the_lock_free(paths: Paths, holder: Holder) -> None:
    with pytest.raises(AlreadyRunning, match=f"another hermesd holds {paths.home} \\(pid {holder.process.pid}\\)"):
        lock.acquire(paths)
    holder.process.send_signal(signal.SIGKILL)
    holder.process.wait()
    lock.acquire(paths).release()


def test_who_waits_gets_the_lock_when_the_holder_leaves(paths: Paths, holder: Holder) -> None:
    holder.process.send_signal(signal.SIGKILL)
    lock.acquire(paths, wait=30.0).release()


def test_waiting_ends(paths: Paths, holder: Holder) -> None:
    began = time.monotonic()
    with pytest.raises(AlreadyRunning) as caught:
        lock.acquire(paths, wait=0.1)
    assert caught.value.pid == holder.process.pid
    assert 0.1 <= time.monotonic() - began < 20


LOOKER = """
import sys
from pathlib import Path
from hermesd.supervisor.instance.lock import is_held
print("looking", flush=True)
while True:
    is_held(Path(sys.argv[1]))
"""


def test_looking_never_keeps_anybody_from_starting(paths: Paths) -> None:
    looker = subprocess.Popen([sys.executable, "-c", LOOKER, str(paths.lock)], stdout=subprocess.PIPE)
    try:
        assert looker.stdout
        looker.stdout.readline()
        for _ in range(200):
            lock.acquire(paths).release()
    finally:
        looker.kill()
        looker.wait()
        looker.stdout.close()


def test_a_pause_of_the_machine_is_no_sign_that_somebody_holds_it(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody looks (`is_held`), and the machine stands still for longer than a look may take."""
    looking, clock = os.open(paths.lock, os.O_RDONLY | os.O_CREAT, 0o600), [0.0]
    fcntl.flock(looking, fcntl.LOCK_SH)

    def pause(seconds: float) -> None:
        clock[0] += 60.0
        if clock[0] == 180.0:
            os.close(looking)

    monkeypatch.setattr(lock, "time", SimpleNamespace(sleep=pause, monotonic=lambda: clock[0]))
    lock.acquire(paths).release()


def test_a_program_that_was_started_by_the_holder_does_not_inherit_the_lock(paths: Paths) -> None:
    held = lock.acquire(paths)
    child = subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=False,
    )
    assert child.stdout
    child.stdout.readline()
    held.release()
    assert not lock.is_held(paths.lock)
    child.communicate(b"\n")


def test_the_file_stays_and_says_nothing_after_a_clean_end(paths: Paths) -> None:
    held = lock.acquire(paths)
    assert pidfile.read(paths.lock) == pidfile.parse(paths.lock.read_bytes())
    inode = paths.lock.stat().st_ino
    held.release()
    held.release()
    assert (paths.lock.stat().st_ino, paths.lock.read_bytes()) == (inode, b"")


def test_a_link_in_the_place_of_the_lock_is_not_followed(paths: Paths, tmp_path: Path) -> None:
    paths.lock.symlink_to(tmp_path / "victim")
    with pytest.raises(HomeUnusable, match="it is a symbolic link"):
        lock.acquire(paths)
    assert not (tmp_path / "victim").exists()


def test_a_directory_in_the_place_of_the_lock_is_an_error_with_its_name(paths: Paths) -> None:
    paths.lock.mkdir()
    with pytest.raises(HomeUnusable, match=f"cannot open the lock file {paths.lock}: Is a directory"):
        lock.acquire(paths)


def _dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


STALE = {
    "of a process that has gone": lambda: Record(_dead_pid(), 1),
    "of a pid that another process has now": lambda: Record(1, 4),
    "of an earlier boot": lambda: Record(os.getpid(), 0, "00000000-0000-0000-0000-000000000000"),
    "a bare pid that somebody has": lambda: b"1\n",
    "empty": lambda: b"",
    "garbage": lambda: b"\x00\xffnot json{{{",
}


@pytest.mark.alone("what takes a millisecond is told from a wait")
@pytest.mark.parametrize("kind", STALE)
def test_an_old_pid_file_is_stale_and_delays_nobody(kind: str, paths: Paths) -> None:
    content = STALE[kind]()
    raw = content if isinstance(content, bytes) else pidfile.encode(content)
    paths.pid_file.write_bytes(raw)
    assert describe(paths) == Standing("stale", pidfile.parse(raw))
    watch = StopWatch()
    held = lock.acquire(paths)
    pidfile.write(paths.pid_file, pidfile.own_record(paths.control_socket))
    assert watch.seconds() < 0.2
    seen = describe(paths)
    assert (seen.state, seen.pid) == ("running", os.getpid())
    pidfile.remove(paths.pid_file)
    held.release()
    assert describe(paths) == Standing("none")


@pytest.mark.alone("what takes a millisecond is told from a wait")
def test_an_old_lock_file_delays_nobody_either(paths: Paths) -> None:
    paths.lock.write_bytes(pidfile.encode(Record(_dead_pid(), 1)))
    watch = StopWatch()
    lock.acquire(paths).release()
    assert watch.seconds() < 0.2


def test_a_home_that_is_not_there_has_no_hermesd(tmp_path: Path) -> None:
    assert describe(paths_of(tmp_path / "missing", {})) == Standing("none")
    assert not (tmp_path / "missing").exists()


def test_running_is_known_without_a_pid_file_and_with_a_false_one(paths: Paths, holder: Holder) -> None:
    assert describe(paths).pid == holder.process.pid
    for false in (Record(1, 4), Record(_dead_pid(), 1)):
        pidfile.write(paths.pid_file, false)
        assert (describe(paths).state, describe(paths).pid) == ("running", holder.process.pid)
    paths.pid_file.write_text(json.dumps("?"))
    assert describe(paths).pid == holder.process.pid
