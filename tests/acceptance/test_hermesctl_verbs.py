"""Every verb of the installed hermesctl on a running hermesd, as text and JSON; the figures are held against /proc."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
from harness.daemon import Daemon, can_drop_privileges, turn_runs
from harness.figures import StopWatch
from harness.running import TIME, running, wait_until

from hermesd.supervisor.control.client import Client
from hermesd.supervisor.instance.paths import paths_of

DM = "agent:main:local:dm"
TICK = os.sysconf("SC_CLK_TCK")

CLOCK = timedelta(seconds=1.5)
"""The kernel tells the time of its boot in whole seconds."""

ROUNDED = timedelta(milliseconds=2)
"""Times are shown with three digits."""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    config = {"mcp_servers": {"time": TIME}, "hermesd": {"workers": {"max_turns": 4}}}
    with running(config, env={"COLUMNS": "200"}) as made:
        yield made


def say(daemon: Daemon, text: str, name: str = "") -> str:
    done = daemon.ctl("chat", *([name] if name else []), input=f"{text}\n")
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextlib.contextmanager
def at_work(daemon: Daemon, text: str, name: str) -> Iterator[dict[str, Any]]:
    """A chat whose agent has begun to work on this; its row. The turn is stopped at the end."""
    with subprocess.Popen(
        daemon.command("hermesctl", "chat", name), env=daemon.env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as chat:  # fmt: skip
        try:
            assert chat.stdin is not None
            chat.stdin.write(f"{text}\n")
            chat.stdin.flush()
            row: dict[str, Any] = wait_until(lambda: busy_row(daemon, f"{DM}:{name}"), what=f"{name} is busy")
            yield row
        finally:
            daemon.ctl("stop", f"{DM}:{name}")
            chat.kill()


def busy_row(daemon: Daemon, session: str) -> dict[str, Any] | None:
    return next((row for row in daemon.workers() if row["session"] == session and turn_runs(row)), None)


def ticks(pid: int) -> list[int]:
    """Fields 14 to 22 of /proc/PID/stat: utime, stime, cutime, cstime, ..., and the last one is the start."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return [int(field) for field in fields[11:20]]


def cpu_seconds(pid: int) -> float:
    return sum(ticks(pid)[:4]) / TICK


def started_at(pid: int) -> datetime:
    boot = next(
        int(line.split()[1]) for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime")
    )
    return datetime.fromtimestamp(boot + ticks(pid)[8] / TICK, UTC)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


# ---- status ----------------------------------------------------------------------------------------------------------


def test_status_says_that_it_runs_since_when_and_where(daemon: Daemon) -> None:
    say(daemon, "hello")
    done = daemon.ctl("status")
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = done.stdout.splitlines()
    assert re.match(
        rf"hermesd is running since \d{{4}}-\d\d-\d\d .*pid {daemon.pid}, .*instance {daemon.instance}", first
    )
    for label in ("Home", "Workers", "Turns", "Queues", "CPU", "Memory", "Event loop", "Containment", "Journal"):
        assert any(line.startswith(f"{label} ") for line in rest), done.stdout
    assert re.search(r"^local +online", done.stdout, re.MULTILINE)
    assert daemon.ctl("status", "--short").stdout.startswith("running ")


def test_the_figures_of_status_are_those_of_proc(daemon: Daemon) -> None:
    before = datetime.now(UTC)
    status = daemon.json("status")
    assert (status["schema"], status["state"], status["pid"]) == (1, "running", daemon.pid)
    assert (status["home"], status["instance"]) == (str(daemon.home), daemon.instance)
    began = moment(status["started_at"])
    assert started_at(daemon.pid) - CLOCK <= began <= datetime.fromtimestamp(daemon.ready_at, UTC)
    assert before - began <= timedelta(seconds=status["uptime_s"]) + ROUNDED
    assert timedelta(seconds=status["uptime_s"]) <= datetime.now(UTC) - began + ROUNDED
    assert status["workers"]["by_state"] == count_states(daemon)
    pids = [daemon.pid, *daemon.processes(but_hermesd=True)]
    assert status["cpu"]["seconds"] == pytest.approx(sum(map(cpu_seconds, pids)), rel=0.25, abs=0.3)
    assert status["memory_bytes"] == pytest.approx(memory(pids), rel=0.35)
    assert status["journal"]["state"] == "ok"


def count_states(daemon: Daemon) -> dict[str, int]:
    counts: dict[str, int] = {}
    for row in daemon.workers():
        counts[row["state"]] = counts.get(row["state"], 0) + 1
    return counts


def memory(pids: list[int]) -> int:
    """The same counted by somebody else."""
    return int(sum(psutil.Process(pid).memory_full_info().pss for pid in pids))


# ---- ps --------------------------------------------------------------------------------------------------------------


def test_the_rows_of_ps_are_the_processes_of_proc(daemon: Daemon) -> None:
    say(daemon, "hello")
    say(daemon, '!call time.get_current_time {"timezone": "UTC"}', "tools")
    document = daemon.json("ps")
    assert document["schema"] == 1
    assert document["figures"]["source"] in ("cgroup", "proc")
    assert document["supervisor"]["pid"] == daemon.pid
    assert Path(f"/proc/{document['keeper']['pid']}").exists()
    parent = psutil.Process(document["keeper"]["pid"]).ppid()
    assert parent == daemon.pid
    by_session = {row["session"]: row for row in document["workers"]}
    row = by_session[DM]
    assert row["state"] == "idle"
    assert (row["turn"], row["queue"], row["processes"], row["mcp"]) == (None, 0, 1, [])
    assert 0 <= row["idle_s"] < 60
    tools = by_session[f"{DM}:tools"]
    (server,) = tools["mcp"]
    assert (server["name"], server["state"]) == ("time", "ready")
    for one in (row, tools):
        # From the order to start it, which a keeper that is still starting itself obeys later.
        assert moment(document["supervisor"]["started_at"]) <= moment(one["started_at"])
        assert moment(one["started_at"]) <= started_at(one["pid"]) + CLOCK
        tree = [one["pid"], *(child.pid for child in psutil.Process(one["pid"]).children(recursive=True))]
        assert one["processes"] == len(tree)
        assert one["cpu_seconds"] == pytest.approx(sum(map(cpu_seconds, tree)), rel=0.2, abs=0.15)
        assert one["memory_bytes"] == pytest.approx(memory(tree), rel=0.3)
    assert "mcp_server_time" in " ".join(psutil.Process(server["pid"]).cmdline())
    assert server["memory_bytes"] == pytest.approx(memory([server["pid"]]), rel=0.3)


def test_ps_as_text_is_a_table_with_a_row_for_each_worker(daemon: Daemon) -> None:
    say(daemon, "hello")
    done = daemon.ctl("ps")
    assert (done.returncode, done.stderr) == (0, "")
    headline, header, *rows = done.stdout.splitlines()
    assert "CPU and memory from" in headline
    assert header.split()[:3] == ["SESSION", "WORKER", "PID"]
    row = daemon.worker_of(DM)
    assert any(line.split()[:4] == [DM, row["worker"], str(row["pid"]), "idle"] for line in rows), done.stdout
    assert DM in daemon.ctl("ps", "-o", "names").stdout.splitlines()
    assert daemon.ctl("ps", "--filter", "session=nobody*", "-o", "names").stdout == ""


def test_the_tree_of_ps_shows_each_server_below_its_worker(daemon: Daemon) -> None:
    say(daemon, '!call time.get_current_time {"timezone": "UTC"}', "tools")
    lines = daemon.ctl("ps", "--tree").stdout.splitlines()
    depth = {
        name: next(line.find(name) for line in lines if name in line) for name in ("keeper", f"{DM}:tools", "mcp time")
    }
    assert depth["keeper"] < depth[f"{DM}:tools"] < depth["mcp time"], lines
    row = next(row for row in daemon.json("ps", "--tree")["workers"] if row["session"] == f"{DM}:tools")
    assert {process["pid"] for process in row["tree"]} == {
        row["pid"], *(child.pid for child in psutil.Process(row["pid"]).children(recursive=True))
    }  # fmt: skip


def test_the_cpu_of_a_spinning_worker_is_seen_while_it_spins_and_goes_on_counting(daemon: Daemon) -> None:
    with at_work(daemon, "!spin 600", "spinning") as row:
        # It spins on while hermesd looks and answers: the truth is between a look of ours before and one after that.
        first = cpu_seconds(row["pid"])
        before = daemon.worker_of(row["session"])["cpu_seconds"]
        second = cpu_seconds(row["pid"])
        wait_until(lambda: cpu_seconds(row["pid"]) - second > 1.0, 30.0, what="a second of CPU")
        third = cpu_seconds(row["pid"])
        after = daemon.worker_of(row["session"])
        last = cpu_seconds(row["pid"])
        assert third - second - 0.1 <= after["cpu_seconds"] - before <= last - first + 0.1
        assert after["cpu_percent"] > 5
        assert (after["state"], bool(after["turn"])) == ("busy", True)
        assert after["turn_s"] >= 1.0


# ---- top -------------------------------------------------------------------------------------------------------------


def test_top_once_names_the_busiest_session_first(daemon: Daemon) -> None:
    say(daemon, "hello", "aaa")
    with at_work(daemon, "!spin 600", "zzz") as row:
        document = daemon.json("top", "--once", "--interval", "0.5")
        assert document["workers"][0]["session"] == row["session"]
        assert document["workers"][0]["cpu_percent"] > 10
        done = daemon.ctl("top", "--once", "--interval", "0.5")
        assert done.returncode == 0
        lines = done.stdout.splitlines()
        header = next(number for number, line in enumerate(lines) if line.startswith("SESSION"))
        assert lines[header + 1].split()[0] == row["session"], done.stdout
        assert "host: " in done.stdout


def test_top_without_a_terminal_says_what_to_give(daemon: Daemon) -> None:
    done = daemon.ctl("top")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--once" in done.stderr


# ---- logs ------------------------------------------------------------------------------------------------------------


def test_logs_shows_the_lines_of_the_file_and_those_of_one_session(daemon: Daemon) -> None:
    daemon.ctl("chat", "mine", input="!fail of mine\n")
    daemon.ctl("chat", "yours", input="!fail of yours\n")
    whole = daemon.ctl("logs")
    assert whole.returncode == 0
    assert "hermesd is up" in whole.stdout
    assert "of mine" in whole.stdout
    mine = daemon.ctl("logs", "--session", f"{DM}:mine").stdout
    assert "of mine" in mine
    assert "of yours" not in mine
    assert "hermesd is up" not in mine
    lines = [json.loads(line) for line in daemon.ctl("logs", "--json", "--level", "ERROR").stdout.splitlines()]
    assert {line["level"] for line in lines} <= {"ERROR", "CRITICAL"}
    failure = next(line for line in lines if line.get("session") == f"{DM}:mine")
    assert "of mine" in failure["msg"]
    assert failure["worker"] == daemon.worker_of(f"{DM}:mine")["worker"]
    assert failure["turn"]
    every = [json.loads(line) for line in daemon.ctl("logs", "--json", "-n", "1000").stdout.splitlines()]
    assert all({"ts", "level", "logger", "msg"} <= line.keys() for line in every)
    of_worker = [
        json.loads(line) for line in daemon.ctl("logs", "--json", "--session", failure["worker"]).stdout.splitlines()
    ]
    assert failure in of_worker
    assert {line["worker"] for line in of_worker} == {failure["worker"]}


def test_logs_follows_until_ctrl_c(daemon: Daemon) -> None:
    with subprocess.Popen(
        daemon.command("hermesctl", "logs", "-f", "-n", "0", "--session", f"{DM}:followed"), env=daemon.env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as following:  # fmt: skip
        try:
            assert following.stdout is not None
            wait_until(lambda: has_open(following.pid, "hermesd.log"), what="it follows")
            daemon.ctl("chat", "other", input="!fail unseen\n")
            daemon.ctl("chat", "followed", input="!fail seen\n")
            assert "failed" in following.stdout.readline()
            following.send_signal(signal.SIGINT)
            rest = following.stdout.read()
            assert "seen" in rest
            assert "unseen" not in rest
            assert following.wait(10) in (0, 130)
        finally:
            following.kill()


def has_open(pid: int, name: str) -> bool:
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if os.path.basename(os.readlink(link)) == name:
                return True
    return False


# ---- chat ------------------------------------------------------------------------------------------------------------


def test_chat_answers_each_line_of_a_pipe_on_stdout_and_failures_on_stderr(daemon: Daemon) -> None:
    done = daemon.ctl("chat", "piped", input="one\n!fail here\ntwo\n")
    assert done.returncode == 1
    assert re.findall(r"You said: (\w+)", done.stdout) == ["one", "two"]
    assert "RuntimeError: here" in done.stderr
    assert "1 message without an answer" in done.stderr


def test_chat_as_json_is_a_line_for_each_event(daemon: Daemon) -> None:
    done = subprocess.run(
        daemon.command("hermesctl", "--json", "chat", "events"), env=daemon.env, input="!stream 2000\n", timeout=30,
        capture_output=True, text=True,
    )  # fmt: skip
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert (events[0]["kind"], events[0]["session"]) == ("open", f"{DM}:events")
    answer = "".join(f"{number} " for number in range(1, 2001))
    assert (events[-1]["kind"], events[-1]["text"]) == ("answer", answer)
    streamed = "".join(event["text"] for event in events if event["kind"] == "delta")
    assert streamed
    assert answer.startswith(streamed)
    assert done.returncode == 0


def test_two_chats_are_two_sessions_and_one_remembers_the_other_not(daemon: Daemon) -> None:
    say(daemon, "I like swans", "left")
    assert "swans" in say(daemon, "!history", "left")
    assert "swans" not in say(daemon, "!history", "right")


# ---- sessions --------------------------------------------------------------------------------------------------------


def test_sessions_lists_shows_and_resets(daemon: Daemon) -> None:
    say(daemon, "about swans", "listed")
    say(daemon, "about geese", "listed")
    key = f"{DM}:listed"
    row = next(row for row in daemon.json("sessions", "list")["sessions"] if row["session"] == key)
    assert (row["platform"], row["state"], row["turns"], row["queue"]) == ("local", "idle", 2, 0)
    text = daemon.ctl("sessions", "list")
    assert text.returncode == 0
    assert any(line.split()[:2] == [key, "idle"] for line in text.stdout.splitlines())

    shown = daemon.json("sessions", "show", key)
    assert shown["transcript_entries"] == 4
    assert [(turn["state"], turn["text"]) for turn in shown["last_turns"]] == [
        ("done", "about geese"), ("done", "about swans"),
    ]  # fmt: skip
    page = daemon.ctl("sessions", "show", key).stdout
    assert page.startswith(f"{key} is idle")
    assert "about swans" in page

    reset = daemon.json("sessions", "reset", key)
    assert reset["sessions"][0]["outcome"] == "done"
    after = daemon.json("sessions", "show", key)["session"]
    assert after["id"] != row["id"]
    assert after["turns"] == 0
    assert "no history yet" in say(daemon, "!history", "listed")
    assert daemon.ctl("sessions", "reset", key).stdout.startswith(f"{key}: reset")


def test_an_unknown_session_is_told_with_status_1(daemon: Daemon) -> None:
    for args in (("sessions", "show"), ("sessions", "reset"), ("restart",), ("stop",)):
        done = daemon.ctl(*args, f"{DM}:nobody")
        assert done.returncode == 1, (args, done)
        assert "no such session" in done.stderr or "there is no session" in done.stderr, done
    error = daemon.json("sessions", "show", f"{DM}:nobody")["error"]
    assert error["code"] == "not_found"


# ---- stop and restart of sessions ------------------------------------------------------------------------------------


def test_stop_of_a_session_ends_its_worker_and_the_conversation_goes_on(daemon: Daemon) -> None:
    say(daemon, "remember this", "stopped")
    key = f"{DM}:stopped"
    pid = daemon.worker_of(key)["pid"]
    done = daemon.ctl("stop", key)
    assert done.returncode == 0
    assert done.stdout.startswith(f"{key}: stopped"), done
    assert not psutil.pid_exists(pid)
    assert key not in {row["session"] for row in daemon.workers()}
    assert "remember this" in say(daemon, "!history", "stopped")
    assert daemon.json("stop", key)["sessions"][0]["outcome"] == "done"


@pytest.mark.parametrize("work", ["!sleep 600", "!spin 600", "!regex"])
def test_stop_of_a_session_at_work_confirms_within_5_seconds(daemon: Daemon, work: str) -> None:
    # Without the start of a hermesctl, which on a busy machine takes seconds of its own.
    control = paths_of(daemon.home, daemon.env).control_socket
    with at_work(daemon, work, "working") as row, Client(control, 30.0) as client:
        watch = StopWatch()
        stop = client.stream("stop", {"sessions": [row["session"]]})
        assert list(stop)
        assert watch.seconds() < 5.0
        assert stop.result is not None
        assert [one["outcome"] for one in stop.result["sessions"]] == ["done"]
        assert not psutil.pid_exists(row["pid"])


def test_restart_of_a_session_gives_it_a_new_worker_with_the_history(daemon: Daemon) -> None:
    say(daemon, "remember this", "restarted")
    key = f"{DM}:restarted"
    before = daemon.worker_of(key)
    done = daemon.ctl("restart", key)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{key}: restarted")
    after = wait_until(lambda: idle(daemon, key), what="a new worker")
    assert after["pid"] != before["pid"]
    assert "remember this" in say(daemon, "!history", "restarted")
    assert daemon.worker_of(key)["pid"] == after["pid"]
    assert daemon.json("restart", key)["sessions"][0]["outcome"] == "done"


def idle(daemon: Daemon, key: str) -> dict[str, Any] | None:
    return next((row for row in daemon.workers() if (row["session"], row["state"]) == (key, "idle")), None)


def test_several_sessions_need_a_yes_and_one_that_is_unknown_makes_it_8(daemon: Daemon) -> None:
    say(daemon, "hello", "one")
    asked = daemon.ctl("stop", f"{DM}:one", f"{DM}:nobody", input="")
    assert asked.returncode == 2
    assert "--yes" in asked.stderr
    assert f"{DM}:one" in {row["session"] for row in daemon.workers()}
    done = daemon.ctl("stop", "--yes", f"{DM}:one", f"{DM}:nobody")
    assert done.returncode == 8, done


# ---- doctor and version ----------------------------------------------------------------------------------------------


def test_doctor_finds_nothing_wrong_and_names_the_container(daemon: Daemon) -> None:
    done = daemon.ctl("doctor")
    assert done.returncode in (0, 1), done.stderr
    findings = daemon.json("doctor")["findings"]
    assert not [finding for finding in findings if finding["severity"] == "error"]
    containment = next(finding for finding in findings if finding["id"] == "containment")
    assert daemon.json("status")["containment"]["name"] in containment["message"]
    assert any(line.startswith(("ok ", "warning")) and "containment:" in line for line in done.stdout.splitlines())


def without_probe(text: str) -> str:
    """Each hermesctl that tries to make a cgroup names it after itself."""
    return re.sub(r"probe-\d+", "probe", text)


def containment_of(daemon: Daemon) -> dict[str, Any]:
    (found,) = (found for found in daemon.json("doctor")["findings"] if found["id"] == "containment")
    assert isinstance(found, dict)
    found["message"] = without_probe(found["message"])
    text = without_probe(daemon.ctl("doctor").stdout)
    assert f"containment: {found['message']}" in text
    assert f"fix: {found['fix']}" in text
    return found


def test_doctor_says_how_to_get_better_than_a_containment_that_was_asked_for() -> None:
    with running({"hermesd": {"containment": "subreaper"}}) as daemon:
        found = containment_of(daemon)
    assert found["severity"] == "ok"
    assert found["message"].startswith("containment is subreaper, which hermesd.containment names")
    assert "containment: auto" in found["fix"]
    assert "Delegate=yes" in found["fix"]


def test_doctor_tells_an_ordinary_user_why_there_is_no_cgroup_and_how_to_get_one(
    lacking: Callable[[str], NoReturn],
) -> None:
    if not can_drop_privileges():
        lacking("needs root and setpriv to become an ordinary user")
    with running({}, unprivileged=True) as daemon:
        refused = daemon.json("status")["containment"]["refused"]
        running_now = containment_of(daemon)
        daemon.stop()
        stopped = containment_of(daemon)
    assert running_now["message"] == f"containment is subreaper; {without_probe(refused[0])}"
    assert "cgroup" in refused[0]
    for found in (running_now, stopped):
        assert found["severity"] == "warning"
        assert "subreaper" in found["message"]
        assert re.search("cgroup: .+", found["message"])
        assert "systemd-run --user --scope -p Delegate=yes hermesd" in found["fix"]


def test_version_tells_both(daemon: Daemon) -> None:
    document = daemon.json("version")
    assert document["hermesctl"] == document["hermesd"]
    assert daemon.ctl("version").stdout.splitlines() == [
        f"hermesctl {document['hermesctl']}", f"hermesd   {document['hermesd']} (pid {daemon.pid})",
    ]  # fmt: skip


def test_every_verb_has_help_and_a_wrong_one_is_2(daemon: Daemon) -> None:
    listed = re.findall(r"^  (\w+) ", daemon.ctl("--help").stdout.partition("Commands:")[2], re.MULTILINE)
    assert {"status", "ps", "top", "logs", "chat", "sessions", "stop", "restart", "doctor", "version"} <= set(listed)
    for verb in listed:
        assert daemon.ctl(verb, "--help").stdout.startswith("Usage: hermesctl")
    assert daemon.ctl("statsu").returncode == 2
    assert daemon.json("ps", "--nonsense")["error"]["code"] == "usage"


# ---- stop of the daemon ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_json", [False, True])
def test_stop_returns_when_hermesd_has_ended(as_json: bool, make_home: Callable[[str], Path]) -> None:
    daemon = Daemon(make_home("home"))
    with daemon.start():
        say(daemon, "hello")
        pid = daemon.pid
        done = daemon.ctl(*(["--json"] if as_json else []), "stop")
        assert daemon.wait_dead(0)
        assert done.returncode == 0
        assert not daemon.processes()
    if as_json:
        document = json.loads(done.stdout)
        assert (document["state"], document["pid"], document["killed"]) == ("stopped", pid, 0)
    else:
        assert re.fullmatch(rf"hermesd \(pid {pid}\) has stopped after \d\.\d s\n", done.stdout)
    assert daemon.ctl("stop").returncode == 7
    assert daemon.ctl("stop", "--if-running").returncode == 0
