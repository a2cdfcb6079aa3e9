"""What hermesctl does to sessions at work and says of those that wait, where one turn runs at a time."""

from __future__ import annotations

import json
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from harness.daemon import Daemon
from harness.figures import StopWatch
from harness.running import running, wait_until

DM = "agent:main:local:dm"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running({"hermesd": {"workers": {"max_turns": 1}}}, env={"COLUMNS": "200"}) as made:
        yield made


@contextmanager
def chat(daemon: Daemon, name: str, *lines: str) -> Iterator[subprocess.Popen[str]]:
    """These lines on their way, the input ended behind them."""
    with subprocess.Popen(
        daemon.command("hermesctl", "chat", name), env=daemon.env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stdin is not None
            process.stdin.write("".join(f"{line}\n" for line in lines))
            process.stdin.close()
            process.stdin = None  # communicate() would flush it
            yield process
        finally:
            process.kill()


def row_of(daemon: Daemon, name: str, state: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        rows = (row for row in daemon.workers() if (row["session"], row["state"]) == (f"{DM}:{name}", state))
        return next(rows, None)

    row: dict[str, Any] = wait_until(look, what=f"{name} is {state}")
    return row


# ---- chat from a pipe ------------------------------------------------------------------------------------------------


def test_a_script_may_answer_a_question_and_repeat_a_message(daemon: Daemon) -> None:
    done = daemon.ctl("chat", "script", input="!ask go on?\n/approve\n!whoami\n/retry\n")
    assert done.returncode == 0, done.stderr
    first, *again = done.stdout.splitlines()
    assert first == "You chose approve."
    assert len(again) == 2
    assert again[0] == again[1], "the answer to the same message"
    assert "Nothing waits" not in done.stderr
    assert "still being answered" not in done.stderr


def test_status_says_when_the_last_message_came(daemon: Daemon) -> None:
    before = datetime.now(UTC)
    daemon.ctl("chat", input="hello\n")
    after = datetime.now(UTC)
    (local,) = (row for row in daemon.json("status")["platforms"] if row["name"] == "local")
    assert before <= datetime.fromisoformat(local["received_at"]) <= after
    assert "attached" in local["describe"]


# ---- those that wait -------------------------------------------------------------------------------------------------


def test_a_session_that_waits_for_a_turn_is_seen_and_is_no_worker(daemon: Daemon) -> None:
    with chat(daemon, "first", "!sleep 600"):
        row_of(daemon, "first", "busy")
        with chat(daemon, "second", "hello") as second:
            row = row_of(daemon, "second", "hibernated")
            assert (row["worker"], row["pid"], row["queue"]) == ("", None, 1)
            assert (row["platform"], row["user"]) == ("local", "local")
            workers = daemon.json("status")["workers"]
            assert workers["total"] == sum(
                number for state, number in workers["by_state"].items() if state != "hibernated"
            )
            assert workers["by_state"]["hibernated"] >= 1
            page = daemon.ctl("ps", "-o", "wide").stdout
            assert "1 session without one" in page.splitlines()[0]
            assert "PLATFORM" in page.splitlines()[1]
            assert json.loads(daemon.ctl("ps", "-o", "json").stdout)["schema"] == 1
            assert daemon.ctl("stop", f"{DM}:first").returncode == 0
            assert "You said: hello" in second.communicate(timeout=20)[0]


# ---- stop and restart ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["stop", "restart"])
def test_with_a_timeout_a_running_turn_may_end_first(daemon: Daemon, verb: str) -> None:
    with chat(daemon, verb, "!sleep 1.5") as talking:
        row_of(daemon, verb, "busy")
        done = daemon.ctl(verb, f"{DM}:{verb}", "--timeout", "20")
        assert done.returncode == 0, done.stderr
        assert talking.communicate(timeout=10)[0] == "Slept for 1.5 s.\n"
    with chat(daemon, verb, "!sleep 600") as talking:
        assert talking.stderr is not None
        assert "sleeping for 600 s" in talking.stderr.readline()
        began, watch = time.monotonic(), StopWatch()
        assert daemon.ctl(verb, f"{DM}:{verb}", "--timeout", "0.5").returncode == 0
        assert watch.seconds() < 6.0
        assert time.monotonic() - began > 0.5
        assert "(interrupted)" in talking.communicate(timeout=10)[0]


def test_a_restart_returns_when_the_new_worker_has_its_agent(daemon: Daemon) -> None:
    for name in ("one", "two"):
        daemon.ctl("chat", name, input="hello\n")
    before = {name: row_of(daemon, name, "idle")["pid"] for name in ("one", "two")}
    done = daemon.ctl("restart", "--yes", f"{DM}:one", f"{DM}:two", "nope")
    assert done.returncode == 8
    # Behind a line or two of progress, where it takes its time.
    assert done.stderr.endswith(f"nope: no such session\n  fix: hermesctl --home {daemon.home} sessions list\n")
    after = {row["session"]: row for row in daemon.workers()}
    for name, pid in before.items():
        assert after[f"{DM}:{name}"]["state"] == "idle"
        assert after[f"{DM}:{name}"]["pid"] != pid
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (daemon.home / "hermesd/logs/stacks").iterdir()}
    assert modes == {0o600}, "stacks tell what an agent works on"


def test_a_restart_that_nobody_waits_for_happens(daemon: Daemon) -> None:
    daemon.ctl("chat", "unwatched", input="hello\n")
    pid = row_of(daemon, "unwatched", "idle")["pid"]
    done = daemon.ctl("restart", f"{DM}:unwatched", "--no-wait", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"schema": 1, "state": "restarting"})
    wait_until(lambda: row_of(daemon, "unwatched", "idle")["pid"] != pid, what="a new worker")
    for args in (("restart", "nope"), ("stop", "nope")):
        unknown = daemon.ctl(*args, "--no-wait")
        assert (unknown.returncode, unknown.stdout) == (1, "")
        assert unknown.stderr.startswith("nope: no such session\n  fix: hermesctl --home ")
