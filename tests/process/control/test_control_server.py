"""The control socket over a real server in a process of its own: frames, slow clients, access."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from harness.control import REST, ControlHost
from harness.figures import StopWatch

from hermesd.ipc.framing import frame, recv_frame
from hermesd.supervisor.control.client import Client, call
from hermesd.supervisor.control.errors import Hangup, NoAnswer, NobodyThere, Refused
from hermesd.supervisor.control.protocol import REQUEST_LIMIT, Request, encode


def answer_on(connection: socket.socket) -> dict[str, Any]:
    body: dict[str, Any] = msgpack.unpackb(recv_frame(connection, time.monotonic() + 30.0))
    return body


# ---- the socket -----------------------------------------------------------------------------------------------------


def test_the_socket_is_closed_to_other_users_and_removed_at_the_end(start: Callable[..., ControlHost]) -> None:
    host = start()
    assert stat.S_IMODE(host.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(host.socket.parent.stat().st_mode) == 0o700
    host.end()
    assert not host.socket.exists()


def test_a_socket_that_a_dead_life_left_is_replaced(start: Callable[..., ControlHost]) -> None:
    first = start()
    first.process.kill()
    first.process.wait()
    assert first.socket.exists()
    with pytest.raises(NobodyThere):
        call(first.socket, "version")
    assert call(start().socket, "version")["pid"] > 0


def test_one_connection_can_have_several_requests_open(host: ControlHost) -> None:
    with host.connect() as connection:
        for number, verb in ((1, "chat"), (2, "version"), (3, "ps")):
            connection.sendall(frame(encode(Request(number, verb))))
        answers = [answer_on(connection) for _ in range(3)]
    assert {answer["id"]: "event" if "event" in answer else "result" for answer in answers} == {
        1: "event", 2: "result", 3: "result",
    }  # fmt: skip


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"hello", msgpack.packb([1, 2]), msgpack.packb({"id": 0, "verb": "ps"}), b"\x91" * 5000]
)
def test_a_malformed_frame_is_answered_and_counted_and_nothing_else(host: ControlHost, payload: bytes) -> None:
    with host.connect() as connection:
        connection.sendall(frame(payload) + frame(encode(Request(1, "version"))))
        fault, answer = answer_on(connection), answer_on(connection)
    assert (fault["id"], fault["error"]["code"]) == (0, "malformed")
    assert answer["result"]["schema"] == 1
    assert host.counters()["malformed"] == 1


def test_a_client_that_only_sends_nonsense_is_cut_off(host: ControlHost) -> None:
    with host.connect() as connection:
        connection.sendall(frame(b"\xc1") * 8)
        assert all(answer_on(connection)["error"]["code"] == "malformed" for _ in range(8))
        assert connection.recv(1) == b""
    assert host.counters()["malformed"] == 8


def test_a_frame_that_is_announced_too_long_ends_the_connection_at_once(host: ControlHost) -> None:
    with host.connect() as connection:
        connection.sendall((REQUEST_LIMIT + 1).to_bytes(4, "big"))
        assert "at most" in answer_on(connection)["error"]["message"]
        assert connection.recv(1) == b""


def test_a_client_that_leaves_in_the_middle_of_anything_leaves_nothing_open(host: ControlHost) -> None:
    before = call(host.socket, "status")["tasks"]
    for sent in (b"\x00", frame(encode(Request(1, "chat"))), frame(encode(Request(1, "ps"))) * 5):
        with host.connect() as connection:
            connection.sendall(sent)
    with Client(host.socket) as client:
        assert client.stream("chat").next() is not None
    deadline = time.monotonic() + 30.0
    while (status := call(host.socket, "status"))["tasks"] != before or len(status["told"]) < 1:
        names = [re.sub(r"\d+", "N", name) for name in status["tasks"]]
        if sorted(names) == sorted(re.sub(r"\d+", "N", name) for name in before) and status["told"]:
            break
        assert time.monotonic() < deadline, status["tasks"]


def test_an_answer_to_nobody_is_no_harm_and_requests_have_numbers_of_their_own(host: ControlHost) -> None:
    with host.connect() as connection:
        connection.sendall(frame(encode(Request(1, "chat"))) * 2)
        answers = [answer_on(connection), answer_on(connection)]
    assert sorted("error" in answer for answer in answers) == [False, True]


def test_a_handler_that_fails_is_a_fault_and_not_the_end(host: ControlHost) -> None:
    with pytest.raises(Refused) as caught:
        call(host.socket, "sessions.reset", {"sessions": ["explode"]})
    assert caught.value.code == "internal"
    assert "RuntimeError: as you wish" in caught.value.message
    assert call(host.socket, "version")["pid"] == host.process.pid


# ---- slow clients and silent servers --------------------------------------------------------------------------------


@pytest.mark.alone("times each of many calls")
def test_a_reader_that_does_not_read_holds_up_nobody_and_is_cut_off(start: Callable[..., ControlHost]) -> None:
    host = start("--quiet")
    with Client(host.socket) as client:
        stream = client.stream("chat")
        assert stream.next() is not None
        stream.send({"text": "flood"})
        slowest = 0.0
        deadline = time.monotonic() + 30.0
        while host.counters()["slow"] == 0:
            watch = StopWatch()
            call(host.socket, "version")
            slowest = max(slowest, watch.seconds())
            assert time.monotonic() < deadline
        assert slowest < 0.25
        with pytest.raises(Hangup):
            list(stream)
    assert "a chat has ended" in call(host.socket, "status")["told"]


def test_a_connection_that_says_nothing_is_ended_but_an_open_chat_is_not(start: Callable[..., ControlHost]) -> None:
    host = start("--quiet")
    with host.connect() as silent, Client(host.socket) as client:
        stream = client.stream("chat")
        assert stream.next() is not None
        assert silent.recv(1) == b""
        with pytest.raises(NoAnswer):
            stream.next(time.monotonic() + 0.7)
        stream.send({"text": "still there"})
        assert stream.next(time.monotonic() + 30.0) is not None


def test_too_many_connections_are_told_so(start: Callable[..., ControlHost]) -> None:
    host = start("--quiet")
    held = [host.connect() for _ in range(4)]
    for connection in held:
        connection.sendall(frame(encode(Request(1, "chat"))))
        assert "event" in answer_on(connection)
    with pytest.raises(Refused) as caught:
        call(host.socket, "version")
    assert caught.value.code == "busy"
    for connection in held:
        connection.close()


def test_more_lines_than_fit_wait_and_none_is_lost(host: ControlHost) -> None:
    lines = [f"line {number}" for number in range(2000)]
    done = host.ctl("chat", lines="\n".join(lines) + "\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == lines


@pytest.mark.alone("a wait is to end on time")
def test_a_server_that_never_answers_costs_the_budget_and_no_more(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(0)
        filling = []
        try:
            while True:  # until the backlog is full
                extra = socket.socket(socket.AF_UNIX)
                filling.append(extra)
                extra.setblocking(False)
                extra.connect(str(path))
        except BlockingIOError:
            pass
        watch = StopWatch()
        with pytest.raises(NoAnswer):
            call(path, "version", budget=0.3)
        assert 0.29 < watch.seconds() < 0.8
        for extra in filling:
            extra.close()


# ---- access ---------------------------------------------------------------------------------------------------------


def test_a_contained_process_may_look_and_nothing_else(start: Callable[..., ControlHost]) -> None:
    host = start("--contain")
    assert host.ctl("ps").returncode == 0
    for verb in (("stop",), ("sessions", "reset", REST), ("restart", REST), ("chat",)):
        done = host.ctl(*verb)
        assert done.returncode == 4, (verb, done)
        assert "may only look" in done.stderr
    assert host.counters()["denied"] == 4
    assert host.process.poll() is None


def test_a_connection_whose_maker_has_died_may_only_look(host: ControlHost) -> None:
    # A child connects, hands the connection up and exits: nobody can tell any more where it ran.
    ours, theirs = socket.socketpair()
    script = (
        "import socket, sys\n"
        "up = socket.socket(fileno=int(sys.argv[1]))\n"
        "made = socket.socket(socket.AF_UNIX); made.connect(sys.argv[2])\n"
        "socket.send_fds(up, [b'x'], [made.fileno()])\n"
    )
    with ours, theirs:
        command = [sys.executable, "-c", script, str(theirs.fileno()), str(host.socket)]
        subprocess.run(command, pass_fds=[theirs.fileno()], check=True, timeout=10)
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    with socket.socket(fileno=descriptors[0]) as inherited:
        inherited.settimeout(30.0)
        inherited.sendall(frame(encode(Request(1, "stop"))) + frame(encode(Request(2, "version"))))
        answers = {answer["id"]: answer for answer in (answer_on(inherited), answer_on(inherited))}
    assert answers[1]["error"]["code"] == "denied"
    assert answers[2]["result"]["pid"] == host.process.pid


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_by_the_directory_and_by_the_server(host: ControlHost, tmp_path: Path) -> None:
    script = (
        "import os, socket, sys\n"
        "from hermesd.supervisor.control.client import call\n"
        "from hermesd.supervisor.control.errors import ControlError, NotAllowed, Refused\n"
        "made = socket.socket(socket.AF_UNIX)\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "try:\n    call(sys.argv[1], 'version')\n"
        "except ControlError as error:\n    print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", script, str(host.socket)]
    assert subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.startswith("NotAllowed")
    # Open every door on the way: the server must still say no.
    opened = []
    for place in (host.socket, *host.socket.parents):
        mode = stat.S_IMODE(place.stat().st_mode)
        if mode & 0o007 != 0o007 and place != Path("/tmp") and str(place).startswith("/tmp"):
            opened.append((place, mode))
            place.chmod(mode | 0o007)
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
    finally:
        for place, mode in opened:
            place.chmod(mode)
    assert said.startswith("Refused this hermesd belongs to uid 0, not to uid 65534"), said
    assert host.counters()["strangers"] == 1
