"""`hermesctl doctor` finds what an earlier hermesd has left, and `doctor --fix` ends that and nothing else."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
from harness.containment import grounds
from harness.daemon import Daemon, can_drop_privileges
from harness.running import TIME, running, wait_until
from harness.scene import Scene
from harness.terminal import Terminal

from hermesd.supervisor.instance import lock
from hermesd.supervisor.instance.paths import paths_of
from hermesd.workers.containment import cgroupfs, naming
from hermesd.workers.containment.errors import Unsupported

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the leftovers are made by way of Linux's /proc")

SESSION = "agent:main:local:dm:one"
ASK_THE_SERVER = '!call time.get_current_time {"timezone": "UTC"}\n'


@pytest.fixture
def make_daemon(make_home: Callable[[str], Path]) -> Iterator[Callable[..., Daemon]]:
    made: list[Daemon] = []

    def make(**ours: Any) -> Daemon:
        config = {"hermesd": {"adopt_timeout": "60s", **ours}, "mcp_servers": {"time": TIME}}
        made.append(Daemon(make_home("home"), json.dumps(config)))
        return made[0]

    yield make
    for daemon in made:
        daemon.__exit__()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One that runs, with a worker and its MCP server."""
    with running({"mcp_servers": {"time": TIME}}) as made:
        made.ctl("chat", "one", input=ASK_THE_SERVER)
        wait_settled(made)
        yield made


@pytest.fixture
def bystanders() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts processes that do nothing, with a tag or without; the test's own children, ended after it."""
    started: list[subprocess.Popen[bytes]] = []

    def start(instance: str = "", *, command: tuple[str, ...] = ("sleep", "600")) -> subprocess.Popen[bytes]:
        tagged = {"HERMESD_TAG": f"{instance}-{secrets.token_hex(16)}"} if instance else {}
        started.append(subprocess.Popen(command, env={**os.environ, **tagged}, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_settled(daemon: Daemon) -> None:
    """Until every worker is there, the spare one as well."""
    wait_until(lambda: all(row["state"] == "idle" for row in daemon.ask("ps", tree=False)["workers"]), what="no start")


def crash(daemon: Daemon) -> set[int]:
    """``kill -9`` of hermesd, its keeper and the keeper's guard, all at once; what is left running."""
    wait_settled(daemon)
    keeper = daemon.json("ps")["keeper"]["pid"]
    guards = [pid for pid in daemon.processes() if Path(f"/proc/{pid}/comm").read_text() == "hermesd-guard\n"]
    assert guards, "the keeper has no guard"
    pidfds = [os.pidfd_open(pid) for pid in (daemon.pid, keeper, *guards)]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pidfd in pidfds:
            signal.pidfd_send_signal(pidfd, number)
    for pidfd in pidfds:
        os.close(pidfd)
    assert daemon.wait_dead(5.0)
    return set(daemon.processes(but_hermesd=True)) - {daemon.pid, keeper, *guards}


def leftovers_of(daemon: Daemon, *arguments: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = daemon.json("doctor", *arguments)["leftovers"]
    return rows


def pids_of(rows: list[dict[str, Any]]) -> set[int]:
    return {row["pid"] for row in rows if row["kind"] == "process"}


@pytest.mark.parametrize("containment", ["auto", "subreaper"])
def test_after_a_crash_of_all_three_it_finds_what_is_left_and_ends_only_that(
    make_daemon: Callable[..., Daemon], bystanders: Callable[..., subprocess.Popen[bytes]], containment: str
) -> None:
    daemon = make_daemon(containment=containment).start()
    daemon.ctl("chat", "one", input=ASK_THE_SERVER)
    foreign = [bystanders(), bystanders("0123456789ab")]
    left = crash(daemon)
    assert len(left) >= 2, "a worker and its MCP server"

    rows = leftovers_of(daemon)
    assert pids_of(rows) == left
    for row in rows:
        if row["kind"] == "process":
            assert 0 < row["age_s"] < 60
            assert row["memory_bytes"] > 100_000
            assert row["proof"] in ("tag", "cgroup", "descent")
    assert {"socket", "file"} <= {row["kind"] for row in rows}
    text = daemon.ctl("doctor")
    assert text.returncode == 1
    assert re.search(r"^\w+ +disk: .* free on the disk of ", text.stdout, re.M)
    assert re.search(rf"^warning +leftovers: left of an earlier hermesd: {len(left)} processes", text.stdout, re.M)
    for pid in left:
        assert re.search(rf"^ +process {pid}, \S+ old, \S+, ours by \w+: .", text.stdout, re.M), text.stdout

    nobody_asked = daemon.ctl("doctor", "--fix", input="")
    assert (nobody_asked.returncode, nobody_asked.stdout) == (2, "")
    assert "give --yes" in nobody_asked.stderr
    assert set(daemon.processes(but_hermesd=True)) == left

    with Terminal(daemon.command("hermesctl", "doctor", "--fix"), daemon.env) as terminal:
        terminal.expect(rf"Kill {len(left)} processes\? \[y/N\]")
        terminal.type("n\n")
        assert terminal.wait() == 1
    assert set(daemon.processes(but_hermesd=True)) == left

    with Terminal(daemon.command("hermesctl", "doctor", "--fix"), daemon.env) as terminal:
        terminal.expect(rf"Kill {len(left)} processes\? \[y/N\]")
        terminal.type("y\n")
        for pid in re.findall(r"killed process (\d+)", terminal.expect("nothing is left of an earlier hermesd")):
            left.remove(int(pid))
        assert terminal.wait() == 0
    assert not left, "each is named"
    assert [*daemon.processes(but_hermesd=True), *daemon.cgroups(), *daemon.sockets()] == []
    assert leftovers_of(daemon) == []
    assert daemon.json("doctor", "--fix") == {"schema": 1, "mended": [], "left": []}
    assert [process.poll() for process in foreign] == [None, None]
    assert daemon.ctl("status").returncode == 3, "its stale PID file is gone too"


def test_beside_a_running_hermesd_it_ends_what_is_not_of_its_keepers_and_workers(
    daemon: Daemon, bystanders: Callable[..., subprocess.Popen[bytes]]
) -> None:
    ours = set(daemon.processes())
    assert leftovers_of(daemon) == []
    # None of the three does anything when another of them dies.
    three = ("sh", "-c", "sleep 600 & exec sh -c 'sleep 600 & exec sleep 600'")
    stray, foreign = bystanders(daemon.instance, command=three), bystanders()
    strays = {stray.pid}
    while len(strays) < 3:
        strays = {pid for pid in daemon.processes() if pid not in ours}
    paths = paths_of(daemon.home, os.environ)
    stale = paths.sockets / "keeper-00000000.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(stale))
    empty = [f"{base}/w-gone-0" for base in bases(daemon)]
    for directory in empty:
        os.mkdir(directory)

    rows = leftovers_of(daemon)
    assert pids_of(rows) == strays
    assert {row["path"] for row in rows if row["kind"] != "process"} == {str(stale), *empty}
    done = daemon.json("doctor", "--fix", "--yes")
    assert pids_of(done["mended"]) == strays
    assert {row["path"] for row in done["mended"] if "path" in row} == {str(stale), *empty}
    assert done["left"] == []
    assert stray.wait(5) == -signal.SIGKILL
    assert foreign.poll() is None
    assert set(daemon.processes()) == ours, "hermesd, keeper, guard, workers and their servers are the same as before"
    assert leftovers_of(daemon) == []
    answer = daemon.ctl("chat", "one", input=ASK_THE_SERVER)
    assert "UTC" in answer.stdout, "the session goes on with the same server"


def bases(daemon: Daemon) -> list[str]:
    """The cgroups of the instance, where it has any."""
    try:
        return cgroupfs.find_named([naming.instance_name(daemon.instance)])
    except Unsupported:
        return []


def test_what_cannot_be_ended_is_told_with_the_reason_and_1(
    bystanders: Callable[..., subprocess.Popen[bytes]], lacking: Callable[[str], NoReturn]
) -> None:
    if not can_drop_privileges() or not any(ground.containment == "cgroup" for ground in grounds()):
        lacking("needs root, setpriv to become an ordinary user, and cgroups")
    with Scene(unprivileged=True) as scene:
        roots = bystanders()
        place = Path(cgroupfs.directory_of()) / naming.instance_name(scene.daemon.instance)
        place.mkdir()
        try:
            (place / "cgroup.procs").write_text(str(roots.pid))
            done = scene.daemon.ctl("doctor", "--fix", "--yes")
            assert done.returncode == 1, done
            assert f"still there: process {roots.pid}, " in done.stderr
            assert "it belongs to uid 0: sleep 600" in done.stderr
            assert roots.poll() is None
        finally:
            cgroupfs.kill(str(place))
            roots.wait()
            assert cgroupfs.remove(str(place))


def test_an_agent_cannot_have_its_own_home_mended(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    tag = f"{daemon.instance}-{secrets.token_hex(16)}"
    # A shell that carries the tag, as those that agents start do.
    script = " ".join(daemon.command("hermesctl", "doctor", "--fix", "--yes")) + "; exit $?"
    env = {**daemon.env, "HERMESD_TAG": tag}
    done = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 4, done
    assert "started by an agent" in done.stderr


def test_it_does_not_mend_while_a_hermesd_starts(
    make_daemon: Callable[..., Daemon], bystanders: Callable[..., subprocess.Popen[bytes]]
) -> None:
    daemon = make_daemon()
    stray = bystanders(daemon.instance)
    paths = paths_of(daemon.home, os.environ)
    paths.prepare()
    held = lock.acquire(paths)
    try:
        done = daemon.ctl("doctor", "--fix", "--yes")
        assert done.returncode == 75, done
        assert stray.poll() is None
    finally:
        held.release()
    assert daemon.ctl("doctor", "--fix", "--yes").returncode == 0
    assert stray.wait(5) == -signal.SIGKILL


def test_what_waits_for_the_next_hermesd_is_named_as_such_and_is_no_leftover_once_it_is_taken_over(
    make_daemon: Callable[..., Daemon],
) -> None:
    daemon = make_daemon().start()
    daemon.ctl("chat", "one", input="hello\n")
    keeper, worker = daemon.json("ps")["keeper"]["pid"], daemon.worker_of(SESSION)["pid"]
    daemon.kill()
    text = daemon.ctl("doctor").stdout
    assert f"keeper {keeper} waits for the next hermesd, to which it would give its workers" in text
    assert re.search(
        r"fix: hermesd .*--daemon, which takes them over, or hermesctl .*doctor --fix, which ends them", text
    )
    daemon.start()
    assert daemon.json("doctor", "--fix", "--yes") == {"schema": 1, "mended": [], "left": []}
    assert daemon.worker_of(SESSION)["pid"] == worker
    daemon.stop()


def test_the_host_is_in_top_and_in_doctor_with_the_figures_that_another_program_sees(daemon: Daemon) -> None:
    def free() -> tuple[int, int]:
        return psutil.virtual_memory().available, psutil.disk_usage(str(daemon.home)).free

    before, host, after = free(), daemon.ask("ps", tree=False)["host"], free()
    assert host["cores"] == psutil.cpu_count()
    assert host["memory_total_bytes"] == psutil.virtual_memory().total
    # Others use them meanwhile, too.
    for shown, tolerance, *seen in (
        (host["memory_available_bytes"], 0.1, before[0], after[0]), (host["disk_free_bytes"], 0.05, before[1], after[1])
    ):  # fmt: skip
        assert (1 - tolerance) * min(seen) <= shown <= (1 + tolerance) * max(seen)
    assert 0 <= daemon.json("top", "--once", "--interval", "0.2")["host"]["cpu_percent"] <= 100
    line = daemon.ctl("top", "--once", "--interval", "0.2").stdout.splitlines()[1]
    assert re.fullmatch(r"host: \d+ cores?, CPU \d+ %, load [\d.]+, memory \S+ of \S+, disk \S+ of \S+", line)
    assert {"load", "memory", "disk"} <= {found["id"] for found in daemon.json("doctor")["findings"]}


def test_figures_of_processes_agree_with_an_independent_count(daemon: Daemon) -> None:
    document = daemon.json("ps", "--tree")
    (row,) = (row for row in document["workers"] if row["session"] == SESSION)
    worker = psutil.Process(row["pid"])
    family = [worker, *worker.children(recursive=True)]
    assert {line["pid"] for line in row["tree"]} == {process.pid for process in family}
    assert row["processes"] == len(family)
    assert {line["pid"]: line["ppid"] for line in row["tree"]} == {process.pid: process.ppid() for process in family}
    assert row["memory_bytes"] == pytest.approx(sum(process.memory_full_info().pss for process in family), rel=0.1)
    used = sum(sum(process.cpu_times()[:4]) for process in family)
    assert row["cpu_seconds"] == pytest.approx(used, abs=0.02 * (1 + len(family)))
