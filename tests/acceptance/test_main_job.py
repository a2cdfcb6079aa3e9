"""The main job: a message reaches a worker of its session, which uses an MCP server and answers; nothing is left."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from harness.daemon import Daemon
from harness.running import TIME, running, wait_until
from harness.terminal import Terminal

CONFIG = json.dumps({"mcp_servers": {"time": TIME}})


@pytest.fixture
def daemon(make_home: Callable[[str], Path]) -> Daemon:
    """Not started: the console is a hermesd itself."""
    return Daemon(make_home("home"), CONFIG)


def console(daemon: Daemon, lines: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        daemon.command("hermesd", "--console"), input=lines, env=daemon.env, capture_output=True, text=True, timeout=60
    )


def test_a_piped_line_is_answered_with_the_help_of_a_real_mcp_server(daemon: Daemon) -> None:
    done = console(daemon, '!call time.get_current_time {"timezone": "UTC"}\n')
    assert done.returncode == 0, done.stderr
    said = datetime.fromisoformat(json.loads(done.stdout)["datetime"])
    assert abs(datetime.now(UTC) - said) < timedelta(seconds=30)
    assert "tool time.get_current_time started" in done.stderr
    assert not daemon.processes()
    assert not daemon.sockets()
    assert not (daemon.home / "hermesd/run/hermesd.pid").exists()


def test_several_lines_are_answered_one_after_the_other_by_one_worker(daemon: Daemon) -> None:
    done = console(daemon, "one\n\n!sleep 0.2\n" + "two")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^(?:You said: \w+|Slept.*|This is message \d)", done.stdout, re.MULTILINE) == [
        "You said: one", "This is message 1", "Slept for 0.2 s.", "You said: two", "This is message 3",
    ]  # fmt: skip


def test_a_failed_line_makes_the_exit_status_1_and_the_same_agent_answers_the_next(daemon: Daemon) -> None:
    done = console(daemon, "!fail on purpose\nstill there\n")
    assert done.returncode == 1
    assert "The agent failed: RuntimeError: on purpose" in done.stderr
    assert "You said: still there\nThis is message 2 to this worker" in done.stdout


def test_a_crashed_worker_is_told_and_a_new_one_answers_the_next_line_with_the_history(daemon: Daemon) -> None:
    done = console(daemon, "before\n!crash\nafter\n")
    assert done.returncode == 1
    assert "has died (exit status 3)" in done.stderr
    assert "/retry runs your message again" in done.stderr
    assert "You said: after\nThis is message 1 to this worker, and I remember 1 answered before it." in done.stdout


@pytest.mark.parametrize(("how", "told"), [("segv", "killed by SIGSEGV"), ("abort", "killed by SIGABRT")])
def test_the_chat_is_told_which_signal_ended_a_worker(daemon: Daemon, how: str, told: str) -> None:
    done = console(daemon, f"!crash {how}\n")
    assert done.returncode == 1
    assert told in done.stderr


def test_an_empty_input_starts_and_ends(daemon: Daemon) -> None:
    done = console(daemon, "")
    assert (done.returncode, done.stdout) == (0, "")


def test_a_slash_command_and_an_answered_question_work_in_a_script(daemon: Daemon) -> None:
    done = console(daemon, "!ask May I?\n/approve\n/status\n")
    assert done.returncode == 0, done.stderr
    assert "May I?" in done.stderr
    assert "You chose approve." in done.stdout
    assert "session: agent:main:local:dm" in done.stdout


def test_the_reader_going_away_ends_the_console_with_1_and_leaves_nothing(daemon: Daemon) -> None:
    with subprocess.Popen(
        daemon.command("hermesd", "--console"), env=daemon.env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write("one\n")
        process.stdin.flush()
        assert process.stdout.readline() == "You said: one\n"
        process.stdout.close()
        process.stdin.write("two\n")
        process.stdin.flush()
        said = process.stderr.read()
        assert process.wait(30) == 1, said
        assert "Traceback" not in said


def test_the_console_on_a_terminal_talks_stops_a_turn_with_ctrl_c_and_ends_with_ctrl_d(daemon: Daemon) -> None:
    with Terminal(daemon.command("hermesd", "--console"), daemon.env) as terminal:
        terminal.expect("> ")
        terminal.type("hello\r")
        terminal.expect("You said: hello\r\n")
        terminal.expect("> ")
        terminal.type("!sleep 600\r")
        terminal.expect(r"\[sleeping for 600 s\]")
        terminal.type("\x03")
        terminal.expect(r"Woken after [\d.]+ of 600 s")
        terminal.expect("> ")
        terminal.type("and you?\r")
        terminal.expect("You said: and you\\?\r\nThis is message 3 to this worker")
        terminal.expect("> ")
        terminal.type("\x04")
        assert terminal.wait() == 0, terminal.seen


def test_ctrl_c_without_a_turn_ends_the_console_with_0(daemon: Daemon) -> None:
    with Terminal(daemon.command("hermesd", "--console"), daemon.env) as terminal:
        terminal.expect("> ")
        terminal.type("\x03")
        assert terminal.wait() == 0, terminal.seen


def test_a_console_beside_a_running_hermesd_is_refused_with_its_pid() -> None:
    with running({}) as daemon:
        done = console(daemon, "hello\n")
        assert done.returncode == 73
        assert str(daemon.pid) in done.stderr
        assert done.stdout == ""
        assert wait_until(lambda: daemon.ask("status")["state"]) == "running"
