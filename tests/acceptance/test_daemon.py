"""hermesd as a program: its starts, its ends, what it says and how it exits."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
from harness.daemon import NOBODY, Daemon, can_drop_privileges, turn_runs
from harness.fake import Fake
from harness.figures import StopWatch
from harness.gate import GATED, Gate
from harness.record import Shown
from harness.running import TIME, running, wait_until

MakeDaemon = Callable[..., Daemon]


@pytest.fixture
def make_daemon(make_home: Callable[[str], Path]) -> Iterator[MakeDaemon]:
    """A home with a configuration and no hermesd yet; whatever runs there at the end is ended and looked for."""
    made: list[Daemon] = []

    def make(config: str = "", **settings: Any) -> Daemon:
        made.append(Daemon(make_home(f"home{len(made)}"), config, **settings))
        return made[-1]

    yield make
    for daemon in made:
        daemon.__exit__()


def hermesd(daemon: Daemon, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        daemon.command("hermesd", *args), env=daemon.env, capture_output=True, text=True, timeout=60,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


@contextmanager
def foreground(daemon: Daemon) -> Iterator[subprocess.Popen[str]]:
    """A hermesd that is this process's child, and has said that it is up."""
    with subprocess.Popen(
        daemon.command("hermesd"), env=daemon.env, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            said: list[str] = []
            while not re.match(r"hermesd .* is up: pid", line := process.stderr.readline()):
                assert line, "".join(said)
                said.append(line)
            daemon.hold(process.pid)
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            daemon.release()


def fake_config(daemon_home: str, **ours: Any) -> str:
    """JSON is YAML too."""
    platform = {"enabled": True, "extra": {"socket": f"{daemon_home}/fake", "record": f"{daemon_home}/shown.jsonl"}}
    return json.dumps({"hermesd": ours, "platforms": {"fake": platform}})


@contextmanager
def busy(daemon: Daemon, text: str) -> Iterator[Fake]:
    """A chat whose agent has begun to work on this."""
    fake = Fake(daemon.home / "fake")
    try:
        fake.say(text, chat="busy")
        wait_until(lambda: any(map(turn_runs, daemon.workers())), what="a busy worker")
        yield fake
    finally:
        fake.close()


@pytest.fixture
def short_home(tmp_path_factory: pytest.TempPathFactory, make_daemon: MakeDaemon) -> MakeDaemon:
    """With the fake platform in it, whose socket path must be short enough."""

    def make(**ours: Any) -> Daemon:
        daemon = make_daemon()
        (daemon.home / "config.yaml").write_text(fake_config(str(daemon.home), **ours), "utf-8")
        return daemon

    return make


# ---- starting --------------------------------------------------------------------------------------------------------


def test_daemon_prints_the_pid_of_the_one_process_that_lives_until_the_stop(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    done = hermesd(daemon, "--daemon")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{int(done.stdout)}\n"
    assert done.stderr == ""
    daemon.hold(int(done.stdout))
    record = json.loads((daemon.home / "hermesd/run/hermesd.pid").read_text())
    started = stat(daemon.pid)[19]
    assert (record["pid"], record["start_ticks"]) == (daemon.pid, int(started))
    assert record["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert record["version"] == daemon.json("version")["hermesd"]
    assert Path(record["control_socket"]).is_socket()
    assert daemon.json("status")["pid"] == daemon.pid
    assert os.getsid(daemon.pid) == daemon.pid
    assert daemon.ctl("chat", input="hello\n").stdout.startswith("You said: hello")
    assert stat(daemon.pid)[19] == started
    assert programs(daemon) == [daemon.pid]
    daemon.stop()
    assert not (daemon.home / "hermesd/run/hermesd.pid").exists()
    assert not daemon.sockets()


def stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def programs(daemon: Daemon) -> list[int]:
    """Every process that was started as hermesd with this home."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if str(daemon.home) in words and any(word.endswith("/hermesd") for word in words):
            found.append(int(entry.parent.name))
    return found


def test_a_second_start_is_refused_with_73_and_the_pid_of_the_first(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    for args in ((), ("--daemon",)):
        done = hermesd(daemon, *args)
        assert done.returncode == 73, done
        assert str(daemon.pid) in done.stderr
        assert done.stdout == ""
    assert daemon.json("status")["pid"] == daemon.pid


def test_replace_ends_the_first_and_starts_the_second(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    daemon.ctl("chat", input="hello\n")
    done = hermesd(daemon, "--daemon", "--replace")
    assert done.returncode == 0, done.stderr
    assert daemon.wait_dead(5.0)
    assert int(done.stdout) != daemon.pid
    daemon.hold(int(done.stdout))
    assert daemon.json("status")["pid"] == daemon.pid
    assert "I remember 1 answered" in daemon.ctl("chat", input="again\n").stdout


def test_replace_of_nobody_is_a_start(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start("--replace")
    assert daemon.json("status")["state"] == "running"


def test_a_port_in_use_costs_that_platform_only_until_it_is_free_and_everybody_is_told(make_daemon: MakeDaemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon = make_daemon(f"platforms:\n  api_server:\n    enabled: true\n    extra: {{port: {port}}}\n")
        started = hermesd(daemon, "--daemon")
        daemon.hold(int(started.stdout))
        holder = f"{psutil.Process().name()} (pid {os.getpid()})"
        reason = f"cannot serve the API on 127.0.0.1:{port}: the port is in use by {holder}"
        assert started.stderr == (
            f"warning: api_server is backing_off: {reason}\n"
            "  fix: set API_SERVER_PORT (platforms.api_server.extra.port) to a free port, 0 for any\n"
        )
        # For the moment of each new try it is "connecting".
        wait_until(lambda: state_of(daemon.ask("status"), "api_server") == ("backing_off", reason), what="it waits")
        status = wait_until(
            lambda: (now := daemon.json("status"))["state"] == "degraded" and now, what="it is degraded"
        )
        (warning,) = status["warnings"]
        assert warning["id"] == "platform.api_server"
        assert "API_SERVER_PORT" in warning["fix"]
        assert daemon.ctl("status").returncode == 0
        wait_until(lambda: daemon.ctl("status", "--strict").returncode == 8, what="that is told by the exit status")
        assert daemon.ctl("chat", input="hello\n").stdout.startswith("You said: hello")
    wait_until(lambda: state_of(daemon.ask("status"), "api_server")[0] == "online", 60.0, what="it is online")
    assert daemon.json("status")["state"] == "running"


def state_of(status: dict[str, Any], platform: str) -> tuple[str, str]:
    return next((row["state"], row["detail"]) for row in status["platforms"] if row["name"] == platform)


def test_an_api_open_to_others_without_a_key_is_told_by_check_and_by_the_start(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon("platforms: {api_server: {enabled: true, extra: {host: 0.0.0.0, port: 0}}}\n")
    assert "0.0.0.0 is open to other machines and there is no key" in hermesd(daemon, "--check").stderr
    started = hermesd(daemon, "--daemon")
    daemon.hold(int(started.stdout))
    assert "api_server is unavailable: cannot serve the API on 0.0.0.0 without a key" in started.stderr
    assert "fix: set API_SERVER_KEY" in started.stderr


def test_a_home_that_it_may_not_write_to_is_named_with_status_1(make_daemon: MakeDaemon) -> None:
    unprivileged = can_drop_privileges()
    daemon = make_daemon(unprivileged=unprivileged)
    if unprivileged:
        os.chown(daemon.home, 0, 0)
    else:
        daemon.home.chmod(0o500)
    for args in ((), ("--daemon",)):
        done = hermesd(daemon, *args)
        assert done.returncode == 1, done
        assert re.fullmatch(rf"error: cannot .*{re.escape(str(daemon.home))}.*\n(  fix: .*\n)?", done.stderr)
    daemon.home.chmod(0o700)


def test_a_home_that_is_a_file_is_named_with_status_1(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    home = daemon.home / "config.yaml"
    for args in ((), ("--daemon",)):
        done = subprocess.run(
            [daemon.command("hermesd")[0], "--home", home, *args], env=daemon.env, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (1, f"error: cannot use {home} as home: it is not a directory\n")


@pytest.mark.parametrize(
    ("config", "where", "what"),
    [
        ("hermesd:\n  agent: [demo\n", "config.yaml:3:1", "flow sequence"),
        ("hermesd:\n  workers: {max: many}\n", "config.yaml:2:18", "hermesd.workers.max"),
        ("hermesd:\n  stop_budget: 1s\n", "config.yaml:2:16", "hermesd.stop_budget"),
    ],
)
def test_a_broken_configuration_is_78_with_file_line_and_column(
    make_daemon: MakeDaemon, config: str, where: str, what: str
) -> None:
    daemon = make_daemon(config)
    for args in ((), ("--daemon",), ("--check",)):
        done = hermesd(daemon, *args)
        assert done.returncode == 78, done
        assert f"{daemon.home}/{where}" in done.stderr, done.stderr
        assert what in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert not (daemon.home / "hermesd/state.db").exists()


def test_an_unknown_key_is_a_warning_with_the_nearest_known_one(make_daemon: MakeDaemon) -> None:
    done = hermesd(make_daemon("hermesd:\n  agnet: demo\n"), "--check")
    assert done.returncode == 0
    assert "agnet" in done.stderr
    assert "agent" in done.stderr.replace("agnet", "")


def test_check_says_that_all_is_well_and_touches_nothing(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon("hermesd: {agent: demo}\n")
    done = hermesd(daemon, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert str(daemon.home) in done.stdout
    assert [path.name for path in daemon.home.iterdir()] == ["config.yaml"]
    daemon.start()
    assert hermesd(daemon, "--check").returncode == 0


def test_a_journal_of_a_newer_hermesd_is_78_and_stays_as_it_is(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    (daemon.home / "hermesd").mkdir(mode=0o700)
    with closing(sqlite3.connect(daemon.home / "hermesd/state.db")) as journal:
        journal.execute("PRAGMA user_version = 999")
    for args in ((), ("--daemon",)):
        done = hermesd(daemon, *args)
        assert done.returncode == 78, done
        assert "state.db" in done.stderr
        assert "999" in done.stderr
    with closing(sqlite3.connect(daemon.home / "hermesd/state.db")) as journal:
        assert journal.execute("PRAGMA user_version").fetchone() == (999,)
    assert daemon.ctl("status").returncode == 3


def test_a_wrong_command_line_is_2(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon()
    assert hermesd(daemon, "--daemno").returncode == 2
    assert hermesd(daemon, "--console", "--daemon").returncode == 2


def test_an_agent_that_does_not_exist_is_told_to_the_chat_and_hermesd_stays(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon("hermesd: {agent: 'no_such_module:make'}\n").start()
    done = daemon.ctl("chat", input="hello\n")
    assert done.returncode == 1
    assert "cannot load agent 'no_such_module:make'" in done.stderr
    assert "NoAgent" not in done.stderr
    assert daemon.json("status")["state"] in ("running", "degraded")
    traced = wait_until(lambda: [line["msg"] for line in log_lines(daemon) if "Traceback" in line["msg"]])
    assert len(traced) == 1, traced
    page = daemon.ctl("status").stdout
    assert "cannot load agent" in page
    assert "Traceback" not in page
    again = daemon.ctl("restart", "agent:main:local:dm")
    assert again.returncode == 1
    assert "agent:main:local:dm: failed: cannot load agent" in again.stderr


@pytest.mark.parametrize(("agent", "status"), [("hermes", 78), ("'no_such_module:make'", 78)])
def test_check_tells_of_an_agent_that_cannot_be(make_daemon: MakeDaemon, agent: str, status: int) -> None:
    done = hermesd(make_daemon(f"hermesd: {{agent: {agent}, agnet_path: /}}\n"), "--check")
    assert done.returncode == status
    assert ("hermes needs hermes-agent" if agent == "hermes" else "no module 'no_such_module'") in done.stderr
    assert "agnet_path" in done.stderr


# ---- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_with_0_and_leaves_nothing(make_daemon: MakeDaemon, number: signal.Signals) -> None:
    daemon = make_daemon()
    with foreground(daemon) as process:
        assert daemon.ctl("chat", input="hello\n").returncode == 0
        process.send_signal(number)
        assert process.wait(20) == 0
    daemon.wait_nothing_left(0.5)
    assert not (daemon.home / "hermesd/run/hermesd.pid").exists()


def test_a_stop_lets_a_running_turn_end_and_refuses_new_ones(short_home: MakeDaemon) -> None:
    daemon = short_home(**GATED)
    gate = Gate(daemon.home.parent)
    with foreground(daemon) as process, busy(daemon, gate.text) as fake:
        before = datetime.now(UTC).isoformat()
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: daemon.ask("status")["state"] == "draining", what="draining")
        status = daemon.ask("status")
        assert status["started_at"] < before <= status["draining_since"]
        assert not fake.ask("say", text="late", chat="late", user="user", trusted=True)["accepted"]
        gate.open()
        assert process.wait(20) == 0
    assert [shown["text"] for shown in Shown(daemon.home / "shown.jsonl").messages()] == [gate.ANSWER]


def test_a_second_ctrl_c_hurries(short_home: MakeDaemon) -> None:
    daemon = short_home(stop_budget="60s")
    with foreground(daemon) as process, busy(daemon, "!sleep 600"):
        process.send_signal(signal.SIGINT)
        wait_until(lambda: daemon.ask("status")["state"] == "draining", what="draining")
        watch = StopWatch()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert watch.seconds() < 5.0
    daemon.wait_nothing_left(0.5)


@pytest.mark.parametrize("work", ["!spin 600", "!regex"])
def test_the_stop_budget_holds_with_an_agent_that_does_not_listen(short_home: MakeDaemon, work: str) -> None:
    daemon = short_home(stop_budget="8s")  # past it, it ends with another status
    with foreground(daemon) as process, busy(daemon, work):
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    daemon.wait_nothing_left(0.5)


def test_more_than_20_crashes_over_all_sessions_ask_for_a_restart_with_75(short_home: MakeDaemon) -> None:
    daemon = short_home()
    with foreground(daemon) as process, closing(Fake(daemon.home / "fake")) as fake:
        for number in range(20):
            fake.final(fake.say("!crash", chat=f"c{number}"), chat=f"c{number}")
        assert process.poll() is None
        fake.say("!crash", chat="the last straw")
        assert process.wait(30) == 75
        assert process.stderr is not None
        assert "crashed within a minute" in process.stderr.read()
    daemon.wait_nothing_left(0.5)


# ---- the log and secrets ---------------------------------------------------------------------------------------------


def log_lines(daemon: Daemon) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (daemon.home / "hermesd/logs/hermesd.log").read_text("utf-8").splitlines()]


def errors(daemon: Daemon) -> list[str]:
    """A worker's records come beside its answers, before them or after."""
    return [line["msg"] for line in log_lines(daemon) if line["level"] == "ERROR"]


def test_the_log_is_json_lines_with_session_and_turn(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    daemon.ctl("chat", input='!fail 100 % "quoted" \\ ü\n')
    wait_until(lambda: errors(daemon), what="the error is logged")
    lines = log_lines(daemon)
    assert all({"ts", "level", "logger", "msg"} <= line.keys() for line in lines)
    failure = next(line for line in lines if line["level"] == "ERROR")
    assert 'RuntimeError: 100 % "quoted" \\ ü' in failure["msg"]
    assert failure["session"] == "agent:main:local:dm"
    assert failure["worker"] == daemon.worker_of("agent:main:local:dm")["worker"]
    assert failure["turn"]


CANARY = "canary{:02}XyZ9secret"
ENVIRONMENT = (
    "TELEGRAM_BOT_TOKEN", "DISCORD_BOT_TOKEN", "MATRIX_ACCESS_TOKEN", "MATRIX_PASSWORD", "API_SERVER_KEY",
    "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENROUTER_API_KEY", "GITHUB_TOKEN", "GH_TOKEN", "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "DATABASE_URL", "PGPASSWORD", "REDIS_URL", "SLACK_BOT_TOKEN",
    "NPM_TOKEN", "GITHUB_PAT", "HF_TOKEN",
)  # fmt: skip
DOTENV = tuple(f"{name}_TWO" for name in ENVIRONMENT)


def of_process(pid: int, what: str) -> bytes:
    """Nothing, where it has ended meanwhile: others run here, too."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/{what}").read_bytes()
    return b""


def as_written(name: str, value: str) -> str:
    return f"db://app:{value}@db.example/app" if "_URL" in name else value


def test_40_secrets_of_environment_and_env_file_reach_no_worker_no_server_no_argv_and_no_log(
    short_home: MakeDaemon,
) -> None:
    values = [CANARY.format(number) for number in range(40)]
    daemon = short_home(stop_budget="10s")
    config = json.loads((daemon.home / "config.yaml").read_text())
    for name in ("telegram", "discord", "matrix"):
        config["platforms"][name] = {"enabled": False}
    in_config = CANARY.format(40)
    config["platforms"]["telegram"]["extra"] = {"webhook_secret": in_config}
    config["mcp_servers"] = {"time": TIME}
    config["platforms"]["api_server"] = {"enabled": True, "extra": {"port": 0}}
    (daemon.home / "config.yaml").write_text(json.dumps(config))
    named = {name: as_written(name, value) for name, value in zip((*ENVIRONMENT, *DOTENV), values, strict=True)}
    values.append(in_config)
    daemon.env |= {name: named[name] for name in ENVIRONMENT}
    (daemon.home / ".env").write_text("".join(f"{name}={named[name]}\n" for name in DOTENV))
    daemon.start("--log-level", "DEBUG")
    with closing(Fake(daemon.home / "fake")) as fake:
        assert "timezone" in fake.talk('!call time.get_current_time {"timezone": "UTC"}', chat="a")
        # The agent says all of them itself, in an error that is logged.
        fake.talk(f"!fail {' '.join(named.values())} {in_config}", chat="a")
        assert len(daemon.processes(but_hermesd=True)) >= 3, "a worker, its server and the keeper"
        marks = [value.encode() for value in values]
        for pid in daemon.processes(but_hermesd=True):
            environ = of_process(pid, "environ")
            assert not [mark for mark in marks if mark in environ], of_process(pid, "cmdline")
        for entry in Path("/proc").glob("[0-9]*"):
            if int(entry.name) != os.getpid():
                with_argv = of_process(int(entry.name), "cmdline")
                assert not [mark for mark in marks if mark in with_argv]
        wait_until(lambda: errors(daemon), what="the error is logged")
    for path in (daemon.home / "hermesd/logs").rglob("*"):
        if path.is_file():
            text = path.read_bytes()
            assert not [mark for mark in marks if mark in text], path
    (failure,) = errors(daemon)
    said = next(line for line in failure.splitlines() if line.startswith("RuntimeError: "))
    blackened = [as_written(name, "[redacted]") for name in named]
    assert said == f"RuntimeError: {' '.join(blackened)} [redacted]"
    assert not [value for value in values if value in daemon.ctl("logs", "-n", "100000").stdout]


def test_hermesd_cannot_be_read_by_a_process_of_the_same_user(lacking: Callable[[str], NoReturn]) -> None:
    if not can_drop_privileges():
        lacking("needs root and setpriv to become an ordinary user")
    with running({}, unprivileged=True) as daemon:
        # The kernel gives the files of an undumpable process to root.
        assert Path(f"/proc/{daemon.pid}/environ").stat().st_uid == 0
        assert Path(f"/proc/{daemon.pid}/status").read_text().split("Uid:")[1].split()[0] == str(NOBODY)


def test_running_leaves_the_home_as_a_user_expects_it() -> None:
    with running({}) as daemon:
        modes = {path.name: path.stat().st_mode & 0o777 for path in (daemon.home / "hermesd").iterdir()}
        assert modes["run"] == modes["logs"] == 0o700
        assert modes["state.db"] == 0o600
        assert (daemon.home / "hermesd").stat().st_mode & 0o777 == 0o700
        home = daemon.home
        daemon.stop()
        assert {path.name for path in home.iterdir()} == {"config.yaml", "hermesd"}
        assert {path.name for path in (home / "hermesd/run").iterdir()} <= {"hermesd.lock"}
