"""The control socket and ``hermesctl``, over a real server in a process of its own (``control/host.py``)."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import stat
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgpack
import pytest

from hermesd.ipc.framing import frame, recv_frame
from hermesd.supervisor.control.client import Client, call
from hermesd.supervisor.control.errors import Hangup, NoAnswer, NobodyThere, Refused
from hermesd.supervisor.control.protocol import REQUEST_LIMIT, Request, encode
from hermesd.supervisor.instance.paths import paths_of

HOST = Path(__file__).parent / "control" / "host.py"
HERMESCTL = Path(sys.executable).parent / "hermesctl"
REST, SPIN = "agent:main:local:dm:rest", "agent:main:local:dm:spin"


class Host:
    """The process, and hermesctl as its user runs it."""

    def __init__(self, home: Path, *flags: str) -> None:
        self.home = home
        self.paths = paths_of(home, os.environ)
        self.socket = self.paths.control_socket
        self.process = subprocess.Popen(
            [sys.executable, str(HOST), str(home), *flags], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def ctl(self, *args: str, lines: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*args), capture_output=True, text=True, timeout=20.0, input=lines)

    def command(self, *args: str) -> list[str]:
        return [str(HERMESCTL), "--home", str(self.home), *args]

    def json(self, *args: str) -> Any:
        done = self.ctl("--json", *args)
        return json.loads(done.stdout)

    def counters(self) -> dict[str, int]:
        counters: dict[str, int] = call(self.socket, "status")["counters"]
        return counters

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(5.0)
        connection.connect(str(self.socket))
        return connection

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., Host]]:
    hosts: list[Host] = []

    def start(*flags: str) -> Host:
        hosts.append(Host(home, *flags))
        return hosts[-1]

    yield start
    for host in hosts:
        host.end()
        host.paths.clear_sockets(remove=True)  # of those that were killed


@pytest.fixture
def host(start: Callable[..., Host]) -> Host:
    return start()


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def answer_on(connection: socket.socket) -> dict[str, Any]:
    body: dict[str, Any] = msgpack.unpackb(recv_frame(connection, time.monotonic() + 5.0))
    return body


# ---- the socket -----------------------------------------------------------------------------------------------------


def test_the_socket_is_closed_to_other_users_and_removed_at_the_end(start: Callable[..., Host]) -> None:
    host = start()
    assert stat.S_IMODE(host.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(host.socket.parent.stat().st_mode) == 0o700
    host.end()
    assert not host.socket.exists()


def test_a_socket_that_a_dead_life_left_is_replaced(start: Callable[..., Host]) -> None:
    first = start()
    first.process.kill()
    first.process.wait()
    assert first.socket.exists()
    with pytest.raises(NobodyThere):
        call(first.socket, "version")
    assert call(start().socket, "version")["pid"] > 0


def test_one_connection_can_have_several_requests_open(host: Host) -> None:
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
def test_a_malformed_frame_is_answered_and_counted_and_the_connection_goes_on(host: Host, payload: bytes) -> None:
    with host.connect() as connection:
        connection.sendall(frame(payload) + frame(encode(Request(1, "version"))))
        fault, answer = answer_on(connection), answer_on(connection)
    assert (fault["id"], fault["error"]["code"]) == (0, "malformed")
    assert answer["result"]["schema"] == 1
    assert host.counters()["malformed"] == 1


def test_a_client_that_only_sends_nonsense_is_cut_off(host: Host) -> None:
    with host.connect() as connection:
        connection.sendall(frame(b"\xc1") * 8)
        assert all(answer_on(connection)["error"]["code"] == "malformed" for _ in range(8))
        assert connection.recv(1) == b""
    assert host.counters()["malformed"] == 8


def test_a_frame_that_is_announced_too_long_ends_the_connection_at_once(host: Host) -> None:
    with host.connect() as connection:
        connection.sendall((REQUEST_LIMIT + 1).to_bytes(4, "big"))
        assert "at most" in answer_on(connection)["error"]["message"]
        assert connection.recv(1) == b""


def test_a_client_that_leaves_in_the_middle_of_anything_leaves_nothing_open(host: Host) -> None:
    before = call(host.socket, "status")["tasks"]
    for sent in (b"\x00", frame(encode(Request(1, "chat"))), frame(encode(Request(1, "ps"))) * 5):
        with host.connect() as connection:
            connection.sendall(sent)
    with Client(host.socket) as client:
        assert client.stream("chat").next() is not None
    deadline = time.monotonic() + 5.0
    while (status := call(host.socket, "status"))["tasks"] != before or len(status["told"]) < 1:
        names = [re.sub(r"\d+", "N", name) for name in status["tasks"]]
        if sorted(names) == sorted(re.sub(r"\d+", "N", name) for name in before) and status["told"]:
            break
        assert time.monotonic() < deadline, status["tasks"]


def test_an_answer_to_nobody_is_no_harm_and_requests_have_numbers_of_their_own(host: Host) -> None:
    with host.connect() as connection:
        connection.sendall(frame(encode(Request(1, "chat"))) * 2)
        answers = [answer_on(connection), answer_on(connection)]
    assert sorted("error" in answer for answer in answers) == [False, True]


def test_a_handler_that_fails_is_a_fault_and_not_the_end(host: Host) -> None:
    with pytest.raises(Refused) as caught:
        call(host.socket, "sessions.reset", {"sessions": ["explode"]})
    assert caught.value.code == "internal"
    assert "RuntimeError: as you wish" in caught.value.message
    assert call(host.socket, "version")["pid"] == host.process.pid


# ---- slow clients and silent servers --------------------------------------------------------------------------------


def test_a_reader_that_does_not_read_holds_up_nobody_and_is_cut_off(start: Callable[..., Host]) -> None:
    host = start("--quiet")
    with Client(host.socket) as client:
        stream = client.stream("chat")
        assert stream.next() is not None
        stream.send({"text": "flood"})
        slowest = 0.0
        deadline = time.monotonic() + 5.0
        while host.counters()["slow"] == 0:
            began = time.monotonic()
            call(host.socket, "version")
            slowest = max(slowest, time.monotonic() - began)
            assert time.monotonic() < deadline
        assert slowest < 0.25
        with pytest.raises(Hangup):
            list(stream)
    assert "a chat has ended" in call(host.socket, "status")["told"]


def test_a_connection_that_says_nothing_is_ended_but_an_open_chat_is_not(start: Callable[..., Host]) -> None:
    host = start("--quiet")
    with host.connect() as silent, Client(host.socket) as client:
        stream = client.stream("chat")
        assert stream.next() is not None
        assert silent.recv(1) == b""
        with pytest.raises(NoAnswer):
            stream.next(time.monotonic() + 0.7)
        stream.send({"text": "still there"})
        assert stream.next(time.monotonic() + 2.0) is not None


def test_too_many_connections_are_told_so(start: Callable[..., Host]) -> None:
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


def test_more_lines_than_fit_wait_and_none_is_lost(host: Host) -> None:
    lines = [f"line {number}" for number in range(2000)]
    done = host.ctl("chat", lines="\n".join(lines) + "\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == lines


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
        began = time.monotonic()
        with pytest.raises(NoAnswer):
            call(path, "version", budget=0.3)
        assert 0.3 <= time.monotonic() - began < 0.8
        for extra in filling:
            extra.close()


# ---- access ---------------------------------------------------------------------------------------------------------


def test_a_contained_process_may_look_and_nothing_else(start: Callable[..., Host]) -> None:
    host = start("--contain")
    assert host.ctl("ps").returncode == 0
    for verb in (("stop",), ("sessions", "reset", REST), ("restart", REST), ("chat",)):
        done = host.ctl(*verb)
        assert done.returncode == 4, (verb, done)
        assert "may only look" in done.stderr
    assert host.counters()["denied"] == 4
    assert host.process.poll() is None


def test_a_connection_whose_maker_has_died_may_only_look(host: Host) -> None:
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
        inherited.settimeout(5.0)
        inherited.sendall(frame(encode(Request(1, "stop"))) + frame(encode(Request(2, "version"))))
        answers = {answer["id"]: answer for answer in (answer_on(inherited), answer_on(inherited))}
    assert answers[1]["error"]["code"] == "denied"
    assert answers[2]["result"]["pid"] == host.process.pid


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_refused_by_the_directory_and_by_the_server(host: Host, tmp_path: Path) -> None:
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


# ---- hermesctl: status ----------------------------------------------------------------------------------------------


def test_status_of_a_running_hermesd(host: Host) -> None:
    done = host.ctl("status")
    assert done.returncode == 0
    assert "hermesd is running since" in done.stdout
    assert f"pid {host.process.pid}" in done.stdout
    document = host.json("status")
    assert (document["schema"], document["state"], document["pid"]) == (1, "running", host.process.pid)


def test_a_degraded_hermesd_is_an_error_only_when_asked_strictly(host: Host) -> None:
    host.process.send_signal(signal.SIGUSR1)
    assert host.ctl("status").returncode == 0
    strict = host.ctl("status", "--strict")
    assert strict.returncode == 8
    assert "warning: made so" in strict.stdout
    assert "fix: make it not so" in strict.stdout


def test_status_without_hermesd(home: Path) -> None:
    done = subprocess.run([str(HERMESCTL), "status", "--json"], capture_output=True, text=True, timeout=10)
    assert done.returncode == 3
    assert json.loads(done.stdout)["state"] == "stopped"
    assert not (home / "hermesd").exists(), "looking must not make anything"


def test_status_of_one_that_died_and_left_its_pid_file(host: Host) -> None:
    host.process.kill()
    host.process.wait()
    done = host.ctl("status", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert (document["state"], document["pid"]) == ("dead", host.process.pid)
    assert host.ctl("stop").returncode == 7


def test_a_stopped_process_is_alive_but_not_answering_and_said_so_within_two_seconds(host: Host) -> None:
    host.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    done = host.ctl("status")
    took = time.monotonic() - began
    assert done.returncode == 4
    assert took < 2.0
    assert "supervisor alive but not answering" in done.stdout
    assert "state T, stopped by a signal" in done.stdout
    assert f"kill -CONT {host.process.pid}" in done.stderr
    document = host.json("status")
    assert (document["state"], document["process_state"]) == ("unresponsive", "T")
    began = time.monotonic()
    stop = host.ctl("stop")
    assert (stop.returncode, time.monotonic() - began < 2.0) == (9, True)
    host.process.send_signal(signal.SIGCONT)
    assert host.ctl("status").returncode in (0, 3)


# ---- hermesctl: looking ---------------------------------------------------------------------------------------------


def test_ps_names_the_workers_and_where_its_figures_come_from(host: Host) -> None:
    head, title, *rows = host.ctl("ps").stdout.splitlines()
    assert head.startswith("2 workers; CPU and memory from a scan of /proc")
    columns = "SESSION WORKER PID STATE AGE IDLE TURN QUEUE RESTARTS CPU% CPU-TIME MEM MCP"
    assert " ".join(title.split()) == columns
    assert [row.split()[0] for row in rows] == [REST, SPIN]


def test_ps_chooses_and_sorts(host: Host) -> None:
    assert host.ctl("ps", "-o", "names", "--filter", "state=busy").stdout == f"{SPIN}\n"
    assert [row["session"] for row in host.json("ps", "--sort", "cpu-time")["workers"]] == [SPIN, REST]
    assert host.ctl("ps", "--tree").stdout.splitlines()[2].startswith("hermesd")


def test_the_figures_of_ps_are_those_of_the_kernel(host: Host) -> None:
    row = next(row for row in host.json("ps")["workers"] if row["session"] == SPIN)
    now = cpu_of(row["pid"])
    assert 0 <= now - row["cpu_seconds"] < 1.0


def test_top_once_measures_between_two_samples_and_puts_the_busiest_first(host: Host) -> None:
    done = host.ctl("top", "--once", "--interval", "0.5")
    rows = done.stdout.splitlines()[done.stdout.splitlines().index("") + 2 :]
    assert [row.split()[0] for row in rows] == [SPIN, REST, "hermesd"]
    pid = next(row["pid"] for row in host.json("ps")["workers"] if row["session"] == SPIN)
    before = cpu_of(pid)
    document = json.loads(host.ctl("top", "--once", "--json", "--interval", "0.5").stdout)
    used = cpu_of(pid) - before
    percent = {row["session"]: row["cpu_percent"] for row in document["workers"]}
    assert percent[REST] < percent[SPIN] / 5
    assert 0 < percent[SPIN] / 100 * 0.5 <= used


def test_top_without_a_terminal_says_what_to_use(host: Host) -> None:
    done = host.ctl("top")
    assert done.returncode == 2
    assert "--once" in done.stderr


def test_json_may_stand_on_either_side_of_the_verb_and_covers_errors(host: Host) -> None:
    assert json.loads(host.ctl("ps", "--json").stdout)["workers"]
    assert json.loads(host.ctl("--json", "ps").stdout)["workers"]
    missing = host.ctl("sessions", "show", "nobody", "--json")
    assert missing.returncode == 1
    assert json.loads(missing.stdout)["error"] == {
        "code": "not_found", "message": "there is no session nobody", "next": "hermesctl sessions list",
    }  # fmt: skip
    wrong = host.ctl("ps", "--json", "--sort", "beauty")
    assert wrong.returncode == 2
    assert json.loads(wrong.stdout)["error"]["code"] == "usage"


def test_colour_is_only_made_on_demand_in_a_pipe(host: Host) -> None:
    assert "\x1b" not in host.ctl("ps").stdout
    assert "\x1b[36mbusy" in host.ctl("--color", "always", "ps").stdout


def test_sessions_are_listed_shown_and_reset(host: Host) -> None:
    assert REST in host.ctl("sessions", "list").stdout
    assert host.ctl("sessions", "show", REST).stdout.startswith(f"{REST} is idle")
    assert host.ctl("sessions", "reset", REST).returncode == 0
    both = host.ctl("sessions", "reset", REST, "nobody")
    assert both.returncode == 2, "nobody can be asked"
    assert "give --yes" in both.stderr
    assert host.ctl("sessions", "reset", REST, "nobody", "--yes").returncode == 8
    assert host.ctl("sessions", "reset", "nobody").returncode == 1


def test_doctor_joins_what_it_sees_with_what_hermesd_says(host: Host) -> None:
    document = host.json("doctor")
    found = {finding["id"]: finding for finding in document["findings"]}
    assert found["live"]["message"] == f"process {host.process.pid} answers"
    assert str(host.process.pid) in found["pid_file"]["message"]
    (host.home / ".env").write_text("X=1")
    (host.home / ".env").chmod(0o644)
    done = host.ctl("doctor", "--only", "permissions")
    assert done.returncode == 1
    assert f"fix: chmod 600 {host.home}/.env" in done.stdout


def test_doctor_works_without_hermesd(home: Path) -> None:
    (home / "config.yaml").write_text("hermesd:\n  workers: {max: many}\n")
    done = subprocess.run([str(HERMESCTL), "doctor", "--json"], capture_output=True, text=True, timeout=30)
    findings = json.loads(done.stdout)["findings"]
    assert done.returncode == 2
    assert {"home", "pid_file", "containment", "leftovers", "configuration", "descriptors"} <= {
        finding["id"] for finding in findings
    }
    wrong = next(finding for finding in findings if finding["id"] == "configuration")
    assert "hermesd.workers.max" in wrong["message"]
    assert "config.yaml:2" in wrong["message"]


# ---- hermesctl: logs ------------------------------------------------------------------------------------------------


def test_logs_are_chosen_and_work_after_the_end(host: Host) -> None:
    host.end()
    assert [line.split(": ")[-1] for line in host.ctl("logs").stdout.splitlines()] == ["up", "careful", "broken"]
    assert host.ctl("logs", "-n", "1").stdout.endswith("broken\n")
    assert json.loads(host.ctl("logs", "--session", "dm:spin", "--json").stdout)["msg"] == "careful"
    assert host.ctl("logs", "--level", "error").stdout.count("\n") == 1
    assert host.ctl("logs", "--grep", "^up$").stdout.count("\n") == 1
    assert host.ctl("logs", "--since", "1h").stdout.count("\n") == 3
    assert host.ctl("logs", "--since", "soon").returncode == 2
    assert host.ctl("logs", "--grep", "(").returncode == 2


def test_following_the_log_ends_well_with_ctrl_c(host: Host) -> None:
    log = host.home / "hermesd" / "logs" / "hermesd.log"
    following = subprocess.Popen(host.command("logs", "-f", "-n", "1"), stdout=subprocess.PIPE, text=True)
    assert following.stdout is not None
    assert following.stdout.readline().endswith("broken\n")
    log.rename(log.with_name("hermesd.log.1"))
    log.write_text(json.dumps({"ts": "", "level": "INFO", "logger": "x", "msg": "after the rotation"}) + "\n")
    assert following.stdout.readline().endswith("after the rotation\n")
    following.send_signal(signal.SIGINT)
    assert following.wait(5) == 0
    following.stdout.close()


# ---- hermesctl: chat ------------------------------------------------------------------------------------------------


def test_piped_lines_are_answered_on_stdout_also_those_that_had_to_wait(host: Host) -> None:
    done = host.ctl("chat", "work", lines="one\nlater\n\nlater\ntwo\nnotice\n")
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["one", "two", "later", "later", "notice"]
    assert done.stderr == "by the way\n"


def test_a_line_without_an_answer_is_an_error(host: Host) -> None:
    done = host.ctl("chat", lines="one\nfail\n")
    assert done.returncode == 1
    assert done.stdout == "one\n"
    assert "failed: as you wish" in done.stderr


def test_a_chat_that_hermesd_ends_does_not_wait_for_more_lines(host: Host) -> None:
    chat = subprocess.Popen(host.command("chat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert chat.stdin is not None
    chat.stdin.write("close\n")
    chat.stdin.flush()
    assert chat.wait(5) == 0
    for stream in (chat.stdin, chat.stdout):
        assert stream is not None
        stream.close()


def test_a_chat_gives_up_when_its_time_is_over(host: Host) -> None:
    done = host.ctl("--timeout", "0.5", "chat", lines="hang\n")
    assert done.returncode == 9


# ---- hermesctl: stop, restart ---------------------------------------------------------------------------------------


def test_stop_shows_progress_waits_for_the_real_end_and_tells_who_had_to_be_killed(host: Host) -> None:
    done = host.ctl("stop")
    assert host.process.wait(0.2) == 0, "it must be gone when hermesctl says so"
    assert done.returncode == 0, done.stderr
    assert f"hermesd (pid {host.process.pid}) has stopped after" in done.stdout
    assert "2 processes had to be killed" in done.stdout
    assert re.search(r"draining: 1 of 2 workers busy, \d s left", done.stderr)
    assert host.ctl("stop").returncode == 7
    assert host.ctl("stop", "--if-running").returncode == 0
    assert host.ctl("status").returncode == 3


def test_stop_without_waiting_returns_at_once(host: Host) -> None:
    began = time.monotonic()
    done = host.ctl("stop", "--no-wait", "--json")
    assert time.monotonic() - began < 1.0
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "stopping")
    assert host.process.wait(5) == 0


def test_ctrl_c_ends_the_watching_and_not_the_stopping(host: Host) -> None:
    stopping = subprocess.Popen(host.command("stop", "--timeout", "3"), stderr=subprocess.PIPE, text=True)
    assert stopping.stderr is not None
    assert stopping.stderr.readline().startswith("draining")
    stopping.send_signal(signal.SIGINT)
    assert stopping.wait(5) == 130
    assert "it goes on all the same" in stopping.stderr.read()
    stopping.stderr.close()
    assert host.process.poll() is None
    assert host.process.wait(5) == 0


def test_single_sessions_are_stopped_and_restarted(host: Host) -> None:
    before = next(row["pid"] for row in host.json("ps")["workers"] if row["session"] == REST)
    assert host.ctl("restart", REST).stdout == f"{REST}: restarted\n"
    assert next(row["pid"] for row in host.json("ps")["workers"] if row["session"] == REST) != before
    done = host.ctl("stop", SPIN)
    assert (done.returncode, done.stdout) == (0, f"{SPIN}: stopped\n")
    assert "1 process had to be killed" in done.stderr
    assert [row["session"] for row in host.json("ps")["workers"]] == [REST]
    assert host.ctl("stop", SPIN, REST, "--yes").returncode == 8
    assert host.process.poll() is None


# ---- the terminal ---------------------------------------------------------------------------------------------------


class Tmux:
    """A terminal of 110 by 24 that a program runs in."""

    def __init__(self, directory: Path, command: list[str]) -> None:
        self._server = str(directory / "tmux")
        quoted = " ".join(f"'{part}'" for part in command)
        script = f"echo before; {quoted}; echo after $?; stty -a | grep -o '.icanon'; cat"
        self.run("-f", "/dev/null", "new-session", "-d", "-x", "110", "-y", "24", script)

    def run(self, *args: str) -> str:
        return subprocess.run(
            ["tmux", "-S", self._server, *args], capture_output=True, text=True, check=True, timeout=10,
            env=dict(os.environ),  # without the COLUMNS that the readline library has set in this process
        ).stdout  # fmt: skip

    def keys(self, *keys: str) -> None:
        self.run("send-keys", *keys)

    def wait_for(self, pattern: str) -> str:
        deadline = time.monotonic() + 10.0
        while not re.search(pattern, shown := self.run("capture-pane", "-p"), re.MULTILINE):
            assert time.monotonic() < deadline, f"{pattern} did not come up in:\n{shown}"
            select.select([], [], [], 0.05)
        return shown

    def close(self) -> None:
        self.run("kill-server")


@pytest.fixture
def tmux(host: Host, tmp_path: Path, lacking: Callable[[str], NoReturn]) -> Iterator[Callable[..., Tmux]]:
    if shutil.which("tmux") is None:
        lacking("there is no tmux here")
    open_ones: list[Tmux] = []

    def start(*args: str) -> Tmux:
        open_ones.append(Tmux(tmp_path, host.command(*args)))
        return open_ones[-1]

    yield start
    for terminal in open_ones:
        terminal.close()


def test_top_is_live_obeys_its_keys_and_leaves_the_screen_as_it_was(tmux: Callable[..., Tmux]) -> None:
    terminal = tmux("top", "--interval", "0.3")
    shown = terminal.wait_for(rf"^{SPIN} .* \d\d\.\d ")
    assert "before" not in shown
    assert shown.index(SPIN) < shown.index(REST), "the busiest comes first"
    for key, said in (("M", "by mem;"), ("T", "by cpu-time;"), ("Q", "by queue;"), ("P", "by cpu;")):
        terminal.keys(key)
        terminal.wait_for(said)
    terminal.keys("t")
    terminal.wait_for(rf"├─ {SPIN}")
    terminal.keys("?")
    terminal.wait_for("q      quit")
    terminal.keys("Space")
    terminal.wait_for("paused, by cpu")
    terminal.keys("q")
    shown = terminal.wait_for("after 0")
    assert "before" in shown
    assert SPIN not in shown
    terminal.wait_for("^.?icanon")
    assert "-icanon" not in terminal.run("capture-pane", "-p")


def test_top_restores_the_terminal_after_ctrl_c(tmux: Callable[..., Tmux]) -> None:
    terminal = tmux("top")
    terminal.wait_for(SPIN)
    terminal.keys("C-c")
    shown = terminal.wait_for("after 130")
    assert SPIN not in shown
    assert "-icanon" not in terminal.wait_for("icanon")


def test_top_stays_and_says_so_when_hermesd_ends(tmux: Callable[..., Tmux], host: Host) -> None:
    terminal = tmux("top", "--interval", "0.2")
    terminal.wait_for(SPIN)
    host.end()
    shown = terminal.wait_for("hermesd is stopped")
    assert SPIN in shown
    terminal.keys("q")
    terminal.wait_for("after 0")


def test_chat_in_a_terminal_streams_and_ends_with_ctrl_d(tmux: Callable[..., Tmux]) -> None:
    terminal = tmux("chat", "work")
    terminal.wait_for("attached to agent:main:local:dm:work")
    terminal.keys("later", "Enter")
    terminal.keys("hello there", "Enter")
    shown = terminal.wait_for("^later\n> ?$")
    assert re.search(r"^hello there\n", shown, re.MULTILINE)
    terminal.keys("close", "Enter")
    terminal.wait_for("after 0")
    assert "-icanon" not in terminal.wait_for("icanon")


# ---- cost -----------------------------------------------------------------------------------------------------------

HEAVY = ("asyncio", "pydantic", "zmq", "aiohttp", "rich", "psutil", "multiprocessing", "ssl", "sqlite3")


@pytest.mark.parametrize("verb", [["--version"], ["status"], ["ps"], ["stop", "--help"], ["chat", "--help"]])
def test_hermesctl_imports_nothing_heavy(host: Host, verb: list[str]) -> None:
    script = (
        "import sys; from hermesd.supervisor.cli.hermesctl import run\n"
        "try:\n    run(sys.argv[2:])\nfinally:\n"
        "    print([name for name in sys.argv[1].split(',') if name in sys.modules], file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", script, ",".join(HEAVY), "--home", str(host.home), *verb]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    assert done.stderr.splitlines()[-1] == "[]"


def test_the_whole_of_status_costs_less_than_150_ms(host: Host) -> None:
    for verb in ("--version", "status"):
        costs = []  # of CPU, for the machine may have other things to do
        for _ in range(10):
            process = subprocess.Popen(host.command(verb), stdout=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0
            costs.append(used.ru_utime + used.ru_stime)
        assert statistics.median(costs) < 0.15, costs


def test_a_reader_that_has_enough_is_no_error_worth_a_traceback(host: Host) -> None:
    script = f"'{HERMESCTL}' --home '{host.home}' logs | head -n 1"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=10)
    assert done.stdout.endswith("up\n")
    assert done.stderr == ""


def test_a_terminal_of_another_encoding_gets_what_it_can_show(host: Host) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(host.command("ps", "--tree"), capture_output=True, text=True, timeout=10, env=env)
    assert done.returncode == 0, done.stderr
    assert REST in done.stdout
