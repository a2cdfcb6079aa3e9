"""``hermesctl`` against a real control server: every verb, its text, its JSON and its exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from harness.control import HERMESCTL, REST, SPIN, ControlHost, cpu_of
from harness.figures import StopWatch, allowed

# ---- hermesctl: status ----------------------------------------------------------------------------------------------


def test_status_of_a_running_hermesd(host: ControlHost) -> None:
    done = host.ctl("status")
    assert done.returncode == 0
    assert "hermesd is running since" in done.stdout
    assert f"pid {host.process.pid}" in done.stdout
    document = host.json("status")
    assert (document["schema"], document["state"], document["pid"]) == (1, "running", host.process.pid)


def test_a_degraded_hermesd_is_an_error_only_when_asked_strictly(host: ControlHost) -> None:
    host.process.send_signal(signal.SIGUSR1)
    assert host.ctl("status").returncode == 0
    strict = host.ctl("status", "--strict")
    assert strict.returncode == 8
    assert "warning: made so" in strict.stdout
    assert "fix: make it not so" in strict.stdout


def test_status_without_hermesd(home: Path) -> None:
    done = subprocess.run([str(HERMESCTL), "status", "--json"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert json.loads(done.stdout)["state"] == "stopped"
    assert not (home / "hermesd").exists(), "looking must not make anything"


def test_status_of_one_that_died_and_left_its_pid_file(host: ControlHost) -> None:
    host.process.kill()
    host.process.wait()
    done = host.ctl("status", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert (document["state"], document["pid"]) == ("dead", host.process.pid)
    assert host.ctl("stop").returncode == 7


@pytest.mark.alone("two seconds are promised to a person")
def test_a_stopped_process_is_alive_but_not_answering_and_said_so_within_two_seconds(host: ControlHost) -> None:
    host.process.send_signal(signal.SIGSTOP)
    watch = StopWatch()
    done = host.ctl("status")
    took = watch.seconds()
    assert done.returncode == 4
    assert took < 2.0
    assert "supervisor alive but not answering" in done.stdout
    assert "state T, stopped by a signal" in done.stdout
    assert f"kill -CONT {host.process.pid}" in done.stderr
    document = host.json("status")
    assert (document["state"], document["process_state"]) == ("unresponsive", "T")
    watch = StopWatch()
    stop = host.ctl("stop")
    assert (stop.returncode, watch.seconds() < 2.0) == (9, True)
    host.process.send_signal(signal.SIGCONT)
    assert host.ctl("status").returncode in (0, 3)


# ---- hermesctl: looking ---------------------------------------------------------------------------------------------


def test_ps_names_the_workers_and_where_its_figures_come_from(host: ControlHost) -> None:
    head, title, *rows = host.ctl("ps").stdout.splitlines()
    assert head.startswith("2 workers; CPU and memory from a scan of /proc")
    columns = "SESSION WORKER PID STATE AGE IDLE TURN QUEUE RESTARTS CPU% CPU-TIME MEM MCP"
    assert " ".join(title.split()) == columns
    assert [row.split()[0] for row in rows] == [REST, SPIN]


def test_ps_chooses_and_sorts(host: ControlHost) -> None:
    assert host.ctl("ps", "-o", "names", "--filter", "state=busy").stdout == f"{SPIN}\n"
    assert [row["session"] for row in host.json("ps", "--sort", "cpu-time")["workers"]] == [SPIN, REST]
    assert host.ctl("ps", "--tree").stdout.splitlines()[2].startswith("hermesd")


def test_the_figures_of_ps_are_those_of_the_kernel(host: ControlHost) -> None:
    pid = next(row["pid"] for row in host.json("ps")["workers"] if row["session"] == SPIN)
    before = cpu_of(pid)
    shown = next(row["cpu_seconds"] for row in host.json("ps")["workers"] if row["session"] == SPIN)
    assert before <= shown <= cpu_of(pid)


def test_top_once_measures_between_two_samples_and_puts_the_busiest_first(host: ControlHost) -> None:
    done = host.ctl("top", "--once", "--interval", "0.5")
    rows = done.stdout.splitlines()[done.stdout.splitlines().index("") + 2 :]
    assert [row.split()[0] for row in rows] == [SPIN, REST, "hermesd"]
    pid = next(row["pid"] for row in host.json("ps")["workers"] if row["session"] == SPIN)
    before = cpu_of(pid)
    document = json.loads(host.ctl("top", "--once", "--json", "--interval", "1.0").stdout)
    used = cpu_of(pid) - before
    percent = {row["session"]: row["cpu_percent"] for row in document["workers"]}
    assert percent[REST] < percent[SPIN] / 5
    assert 0 < percent[SPIN] / 100 <= used


def test_top_without_a_terminal_says_what_to_use(host: ControlHost) -> None:
    done = host.ctl("top")
    assert done.returncode == 2
    assert "--once" in done.stderr


def test_json_may_stand_on_either_side_of_the_verb_and_covers_errors(host: ControlHost) -> None:
    assert json.loads(host.ctl("ps", "--json").stdout)["workers"]
    assert json.loads(host.ctl("--json", "ps").stdout)["workers"]
    missing = host.ctl("sessions", "show", "nobody", "--json")
    assert missing.returncode == 1
    assert json.loads(missing.stdout)["error"] == {
        "code": "not_found", "message": "there is no session nobody",
        "next": f"hermesctl --home {host.home} sessions list",
    }  # fmt: skip
    wrong = host.ctl("ps", "--json", "--sort", "beauty")
    assert wrong.returncode == 2
    assert json.loads(wrong.stdout)["error"]["code"] == "usage"


def test_colour_is_only_made_on_demand_in_a_pipe(host: ControlHost) -> None:
    assert "\x1b" not in host.ctl("ps").stdout
    assert "\x1b[36mbusy" in host.ctl("--color", "always", "ps").stdout


def test_sessions_are_listed_shown_and_reset(host: ControlHost) -> None:
    assert REST in host.ctl("sessions", "list").stdout
    assert host.ctl("sessions", "show", REST).stdout.startswith(f"{REST} is idle")
    assert host.ctl("sessions", "reset", REST).returncode == 0
    both = host.ctl("sessions", "reset", REST, "nobody")
    assert both.returncode == 2, "nobody can be asked"
    assert "give --yes" in both.stderr
    assert host.ctl("sessions", "reset", REST, "nobody", "--yes").returncode == 8
    assert host.ctl("sessions", "reset", "nobody").returncode == 1


def test_doctor_joins_what_it_sees_with_what_hermesd_says(host: ControlHost) -> None:
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


def test_logs_are_chosen_and_work_after_the_end(host: ControlHost) -> None:
    host.end()
    assert [line.split(": ")[-1] for line in host.ctl("logs").stdout.splitlines()] == ["up", "careful", "broken"]
    assert host.ctl("logs", "-n", "1").stdout.endswith("broken\n")
    assert json.loads(host.ctl("logs", "--session", "dm:spin", "--json").stdout)["msg"] == "careful"
    assert host.ctl("logs", "--level", "error").stdout.count("\n") == 1
    assert host.ctl("logs", "--grep", "^up$").stdout.count("\n") == 1
    assert host.ctl("logs", "--since", "1h").stdout.count("\n") == 3
    assert host.ctl("logs", "--since", "soon").returncode == 2
    assert host.ctl("logs", "--grep", "(").returncode == 2


def test_following_the_log_ends_well_with_ctrl_c(host: ControlHost) -> None:
    log = host.home / "hermesd" / "logs" / "hermesd.log"
    following = subprocess.Popen(host.command("logs", "-f", "-n", "1"), stdout=subprocess.PIPE, text=True)
    assert following.stdout is not None
    assert following.stdout.readline().endswith("broken\n")
    log.rename(log.with_name("hermesd.log.1"))
    log.write_text(json.dumps({"ts": "", "level": "INFO", "logger": "x", "msg": "after the rotation"}) + "\n")
    assert following.stdout.readline().endswith("after the rotation\n")
    following.send_signal(signal.SIGINT)
    assert following.wait(30) == 0
    following.stdout.close()


# ---- hermesctl: chat ------------------------------------------------------------------------------------------------


def test_piped_lines_are_answered_on_stdout_one_after_the_other(host: ControlHost) -> None:
    done = host.ctl("chat", "work", lines="one\n\ntwo\nnotice\n")
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["one", "two", "notice"]
    assert done.stderr == "by the way\n"


def test_a_line_without_an_answer_is_an_error(host: ControlHost) -> None:
    done = host.ctl("chat", lines="one\nfail\n")
    assert done.returncode == 1
    assert done.stdout == "one\n"
    assert "failed: as you wish" in done.stderr


def test_a_chat_that_hermesd_ends_does_not_wait_for_more_lines(host: ControlHost) -> None:
    chat = subprocess.Popen(host.command("chat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert chat.stdin is not None
    chat.stdin.write("close\n")
    chat.stdin.flush()
    assert chat.wait(30) == 0
    for stream in (chat.stdin, chat.stdout):
        assert stream is not None
        stream.close()


def test_a_chat_in_the_background_ends_with_its_hermesd(host: ControlHost) -> None:
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *host.command("--json", "chat")]
    with subprocess.Popen(
        ignoring, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as chat:
        try:
            assert chat.stdout is not None
            assert chat.stderr is not None
            assert '"open"' in chat.stdout.readline()
            host.process.kill()
            assert chat.wait(30) == 7
            assert f"fix: hermesd --home {host.home} --daemon" in chat.stderr.read()
        finally:
            chat.kill()


def test_a_chat_gives_up_when_its_time_is_over(host: ControlHost) -> None:
    done = host.ctl("--timeout", "0.5", "chat", lines="hang\n")
    assert done.returncode == 9


# ---- hermesctl: stop, restart ---------------------------------------------------------------------------------------


def test_stop_shows_progress_waits_for_the_real_end_and_tells_who_had_to_be_killed(host: ControlHost) -> None:
    done = host.ctl("stop")
    assert host.process.poll() == 0, "it must be gone when hermesctl says so"
    assert done.returncode == 0, done.stderr
    assert f"hermesd (pid {host.process.pid}) has stopped after" in done.stdout
    assert "2 processes had to be killed" in done.stdout
    assert re.search(r"draining: 1 of 2 workers busy, \d s left", done.stderr)
    assert host.ctl("stop").returncode == 7
    assert host.ctl("stop", "--if-running").returncode == 0
    assert host.ctl("status").returncode == 3


def test_stop_without_waiting_returns_while_it_goes_on(host: ControlHost) -> None:
    done = host.ctl("stop", "--no-wait", "--json", "--timeout", "60")
    assert host.process.poll() is None
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "stopping")
    host.process.terminate()  # its minute has not to be waited for
    assert host.process.wait(30) == 0


def test_ctrl_c_ends_the_watching_and_not_the_stopping(host: ControlHost) -> None:
    stopping = subprocess.Popen(host.command("stop", "--timeout", "60"), stderr=subprocess.PIPE, text=True)
    assert stopping.stderr is not None
    assert stopping.stderr.readline().startswith("draining")
    stopping.send_signal(signal.SIGINT)
    assert stopping.wait(30) == 130
    assert "it goes on all the same" in stopping.stderr.read()
    stopping.stderr.close()
    assert host.process.poll() is None
    host.process.terminate()
    assert host.process.wait(30) == 0


def test_single_sessions_are_stopped_and_restarted(host: ControlHost) -> None:
    before = next(row["pid"] for row in host.json("ps")["workers"] if row["session"] == REST)
    assert host.ctl("restart", REST).stdout == f"{REST}: restarted\n"
    assert next(row["pid"] for row in host.json("ps")["workers"] if row["session"] == REST) != before
    done = host.ctl("stop", SPIN)
    assert (done.returncode, done.stdout) == (0, f"{SPIN}: stopped\n")
    assert "1 process had to be killed" in done.stderr
    assert [row["session"] for row in host.json("ps")["workers"]] == [REST]
    assert host.ctl("stop", SPIN, REST, "--yes").returncode == 8
    unknown = host.ctl("stop", "nope")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    said = unknown.stderr.splitlines()
    assert (said[0], said[-1]) == ("nope: no such session", f"  fix: hermesctl --home {host.home} sessions list")
    assert host.process.poll() is None


# ---- cost -----------------------------------------------------------------------------------------------------------

HEAVY = ("asyncio", "pydantic", "zmq", "aiohttp", "rich", "psutil", "multiprocessing", "ssl", "sqlite3")


@pytest.mark.parametrize(
    "verb",
    [
        ["--version"],
        ["status"],
        ["ps"],
        ["top", "--help"],
        ["stop", "--help"],
        ["chat", "--help"],
        ["doctor", "--help"],
    ],
)
def test_hermesctl_imports_nothing_heavy(host: ControlHost, verb: list[str]) -> None:
    script = (
        "import sys; from hermesd.supervisor.cli.hermesctl import run\n"
        "try:\n    run(sys.argv[2:])\nfinally:\n"
        "    print([name for name in sys.argv[1].split(',') if name in sys.modules], file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", script, ",".join(HEAVY), "--home", str(host.home), *verb]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.alone("CPU time is dearer where caches are shared")
def test_the_whole_of_status_costs_less_than_150_ms(host: ControlHost) -> None:
    nothing = cost_of([sys.executable, "-c", "pass"])
    for verb in ("--version", "status"):
        cost = cost_of(host.command(verb))
        assert cost < allowed(0.15, 6 * nothing), f"{cost:.3f} s of CPU, and {nothing:.3f} s for an interpreter alone"


def cost_of(command: list[str]) -> float:
    """Seconds of CPU, for the machine may have other things to do."""
    costs = []
    for _ in range(10):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        costs.append(used.ru_utime + used.ru_stime)
    return statistics.median(costs)


def test_a_reader_that_has_enough_is_no_error_worth_a_traceback(host: ControlHost) -> None:
    script = f"'{HERMESCTL}' --home '{host.home}' logs | head -n 1"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("up\n")
    assert done.stderr == ""


def test_a_terminal_of_another_encoding_gets_what_it_can_show(host: ControlHost) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(host.command("ps", "--tree"), capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    assert REST in done.stdout
