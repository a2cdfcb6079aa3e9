"""What is made of a hermesd that does not answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hermesd.ipc.framing import frame
from hermesd.supervisor.cli import daemon as daemon_module
from hermesd.supervisor.cli.daemon import Daemon, Sight
from hermesd.supervisor.cli.exits import Exit
from hermesd.supervisor.cli.options import Options
from hermesd.supervisor.control.errors import NoAnswer, NobodyThere, Unreachable
from hermesd.supervisor.control.protocol import Result, encode
from hermesd.supervisor.instance.lock import Standing
from hermesd.supervisor.instance.pidfile import own_record


@pytest.mark.parametrize(
    ("letter", "error", "state", "status"),
    [
        ("Z", NoAnswer("no answer"), "dead", Exit.DEAD),
        ("Z", NobodyThere("nobody"), "dead", Exit.DEAD),
        ("T", NoAnswer("no answer"), "unresponsive", Exit.NO_ANSWER),
        ("S", NobodyThere("nobody"), "starting", Exit.NO_ANSWER),
    ],
)
def test_its_process_decides(
    letter: str, error: Unreachable, state: str, status: Exit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Daemon(Options(home=tmp_path))
    monkeypatch.setattr(daemon_module, "process_state", lambda pid: letter)
    monkeypatch.setattr(Daemon, "describe", lambda self: Standing("running", own_record(self.paths.control_socket)))
    sight = daemon.sight(error)
    assert (sight.state, sight.status, sight.process_state) == (state, status, letter)


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Where a hermesd of this home would listen, which its files call running."""
    daemon = Daemon(Options(home=tmp_path))
    daemon.paths.control_socket.parent.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(Daemon, "describe", lambda self: Standing("running", own_record(self.paths.control_socket)))
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(daemon.paths.control_socket))
        made.listen()
        yield made


def test_one_that_can_run_is_waited_for_beyond_the_budget(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Event()

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1024)
            looked.wait(20.0)
            connection.sendall(frame(encode(Result(1, {"schema": 1}))))

    def process_state(pid: int) -> str:
        looked.set()
        return "S"

    monkeypatch.setattr(daemon_module, "process_state", process_state)
    answering = threading.Thread(target=answer)
    answering.start()
    assert Daemon(Options(home=tmp_path), patience=0.01).ask("status") == {"schema": 1}
    answering.join()


@pytest.mark.parametrize("seen", ["RTT", "DSS"], ids=["stopped", "asleep"])
def test_status_waits_no_longer_for_one_that_does_not_run_and_wants_nothing(
    seen: str, listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = iter(seen)
    monkeypatch.setattr(daemon_module, "process_state", lambda pid: next(letters))
    sight = Daemon(Options(home=tmp_path), patience=0.01).status()
    assert isinstance(sight, Sight)
    assert (sight.state, sight.process_state, list(letters)) == ("unresponsive", seen[-1], [])


def test_who_says_how_long_he_waits_is_told_then(
    listener: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    letters = iter("R")
    monkeypatch.setattr(daemon_module, "process_state", lambda pid: next(letters))
    sight = Daemon(Options(home=tmp_path, timeout=0.01)).status()
    assert isinstance(sight, Sight)
    assert (sight.state, sight.process_state) == ("unresponsive", "R")
