"""What hermesctl says, and with which status it exits, in each state that a hermesd can be in."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.daemon import BIN, Daemon, can_drop_privileges, unprivileged_prefix
from harness.figures import StopWatch

ACTIONS = (("ps",), ("top", "--once"), ("chat",), ("sessions", "list"), ("stop",), ("restart", "agent:main:local:dm"))


@pytest.fixture
def daemon(make_home: Callable[[str], Path]) -> Iterator[Daemon]:
    # Whoever is killed here has no successor that its keeper could wait for.
    made = Daemon(make_home("home"), '{"hermesd": {"adopt_timeout": "0s"}}')
    yield made
    made.__exit__()


def test_stopped_is_3_for_status_and_7_for_actions(daemon: Daemon) -> None:
    done = daemon.ctl("status")
    assert done.returncode == 3
    assert done.stdout.startswith("hermesd is stopped: ")
    assert f"fix: hermesd --home {daemon.home} --daemon" in done.stderr
    document = daemon.json("status")
    assert (document["schema"], document["state"], document["pid"]) == (1, "stopped", None)
    assert daemon.ctl("status", "--short").stdout == "stopped\n"
    for action in ACTIONS:
        refused = daemon.ctl(*action, input="")
        assert (refused.returncode, refused.stdout) == (7, ""), (action, refused)
        assert refused.stderr.startswith("error: hermesd is stopped"), action
        assert daemon.json(*action)["error"]["code"] == "not_running"
    assert daemon.ctl("doctor").returncode in (0, 1)
    assert "hermesd   not running" in daemon.ctl("version").stdout
    assert not (daemon.home / "hermesd").exists(), "looking makes nothing"


def test_running_is_0(daemon: Daemon) -> None:
    daemon.start()
    assert daemon.ctl("status").returncode == 0
    assert daemon.ctl("status", "--strict").returncode == 0


def test_killed_with_its_pid_file_left_is_1_and_the_next_start_clears_it(daemon: Daemon) -> None:
    daemon.start()
    pid = daemon.pid
    daemon.kill()
    daemon.wait_nothing_left(6.0)
    done = daemon.ctl("status")
    assert done.returncode == 1
    assert done.stdout.startswith("hermesd is dead: ")
    assert str(pid) in done.stdout
    document = daemon.json("status")
    assert (document["state"], document["pid"]) == ("dead", pid)
    assert daemon.ctl("ps").returncode == 7
    assert daemon.ctl("logs").returncode == 0, "the log of a dead hermesd can be read"
    daemon.start()
    assert daemon.ctl("status").returncode == 0


@pytest.mark.alone("two seconds are promised to a person")
def test_stopped_by_a_signal_is_4_within_2_seconds(daemon: Daemon) -> None:
    daemon.start()
    daemon.signal(signal.SIGSTOP)
    try:
        for args in (("status",), ("--json", "status")):
            watch = StopWatch()
            done = daemon.ctl(*args)
            assert watch.seconds() < 2.0
            assert done.returncode == 4
            assert f"kill -CONT {daemon.pid}" in done.stderr
        document = json.loads(done.stdout)
        assert (document["state"], document["pid"], document["process_state"]) == ("unresponsive", daemon.pid, "T")
        action = daemon.ctl("ps")
        assert action.returncode == 9
        assert "unresponsive" in action.stderr
    finally:
        daemon.signal(signal.SIGCONT)
    assert daemon.ctl("status").returncode == 0


def test_another_users_hermesd_is_not_told_about(daemon: Daemon) -> None:
    if not can_drop_privileges():
        pytest.skip("needs root to become an ordinary user")
    daemon.start()
    for path in (daemon.home, daemon.home.parent, daemon.home.parent.parent):
        path.chmod(path.stat().st_mode | 0o055)
    for args, status in ((("status",), 4), (("ps",), 4), (("stop",), 4)):
        done = subprocess.run(
            [*unprivileged_prefix(), str(BIN / "hermesctl"), "--home", str(daemon.home), *args], env=daemon.env,
            capture_output=True, text=True, timeout=20,
        )  # fmt: skip
        assert done.returncode == status, (args, done)
        assert "Traceback" not in done.stderr
    assert daemon.ctl("status").returncode == 0


def test_wrong_usage_is_2_and_json_says_it_too(daemon: Daemon) -> None:
    assert daemon.ctl("ps", "--sort", "nonsense").returncode == 2
    assert daemon.json("ps", "--sort", "nonsense")["error"]["code"] == "usage"
    assert daemon.ctl("sessions", "show").returncode == 2


def test_the_first_output_needs_no_heavy_library(daemon: Daemon) -> None:
    daemon.start()
    program = (
        "import sys\n"
        "from hermesd.supervisor.cli.hermesctl import run\n"
        f"status = run(['--home', {str(daemon.home)!r}, 'status'])\n"
        "heavy = {'pydantic', 'zmq', 'aiohttp', 'rich', 'psutil', 'mcp', 'asyncio', 'ruamel', 'msgpack'}\n"
        "print(status, sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], env=daemon.env, capture_output=True, text=True, timeout=20
    )
    assert done.stdout.startswith("hermesd is running")
    status, _, loaded = done.stderr.partition(" ")
    assert status == "0"
    assert not {"pydantic", "zmq", "aiohttp"} & set(re.findall(r"'(\w+)'", loaded)), loaded
