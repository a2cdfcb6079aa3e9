"""How long a client waits for hermesd, on a machine that stands still for two seconds whenever it waits."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from hermesd.ipc.framing import frame
from hermesd.supervisor.control import client
from hermesd.supervisor.control.client import Client
from hermesd.supervisor.control.errors import NoAnswer
from hermesd.supervisor.control.protocol import Result, encode

PAUSE = 2.0


class Machine:
    """``then`` is called with the number of each pause, when it is over."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses = 0
        self.then: Callable[[int], None] = lambda number: None

    def poll(self) -> Poll:
        return Poll(self)


class Poll:
    """`select.poll`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._real = select.poll()

    def register(self, connection: socket.socket, event: int) -> None:
        self._real.register(connection, event)

    def poll(self, milliseconds: float) -> None:
        if not self._real.poll(0):
            self._machine.now += PAUSE
            self._machine.pauses += 1
            self._machine.then(self._machine.pauses)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    events = {"POLLIN": select.POLLIN, "POLLOUT": select.POLLOUT}
    monkeypatch.setattr(client, "select", SimpleNamespace(poll=made.poll, **events))
    monkeypatch.setattr(client, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


@pytest.fixture
def hermesd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "control.sock"))
        listening.listen()
        yield listening


def test_a_pause_of_the_machine_is_not_the_silence_of_hermesd(machine: Machine, hermesd: socket.socket) -> None:
    with Client(Path(hermesd.getsockname()), 1.0) as asking, hermesd.accept()[0] as connection:

        def answer(number: int) -> None:
            if number == 3:
                connection.sendall(frame(encode(Result(1, {"pid": 7}))))

        machine.then = answer
        assert asking.call("version") == {"pid": 7}


def test_silence_is_told_when_the_budget_was_waited_for(machine: Machine, hermesd: socket.socket) -> None:
    with Client(Path(hermesd.getsockname()), 1.0) as asking, pytest.raises(NoAnswer, match="no answer within 1 s"):
        asking.call("version")
    assert machine.pauses in (10, 11)


def test_a_deadline_is_one_of_the_wall(machine: Machine, hermesd: socket.socket) -> None:
    with Client(Path(hermesd.getsockname()), 60.0) as asking:
        stream = asking.stream("chat")
        with pytest.raises(NoAnswer):
            stream.next(machine.now + 1.5 * PAUSE)
    assert machine.pauses == 2
