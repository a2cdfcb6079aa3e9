"""What a user can get wrong: each is told where it stands and what would be right, and costs nothing else."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from harness.daemon import Daemon, can_drop_privileges
from harness.running import TIME, running, wait_until

MIB = 1 << 20


@pytest.fixture
def home(make_home: Callable[[str], Path]) -> Path:
    return make_home("home")


def program(home: Path, name: str, *args: str, **more: Any) -> subprocess.CompletedProcess[str]:
    daemon = Daemon(home.parent / "unused")
    command = daemon.command(name, *args)
    command[command.index("--home") + 1] = str(home)
    return subprocess.run(
        command, env=daemon.env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, **more
    )


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("config.yaml", b"hermesd:\n  agent: [demo\n", [":3:1", "broken YAML", "fix: check quotes and indentation"]),
        ("config.yaml", b"hermesd:\n\tagent: demo\n", [":2:1", "a tab character", "fix: indent with spaces"]),
        ("config.yaml", b"hermesd:\n  workers: {max: many}\n",
         [":2:18", 'hermesd.workers.max: "many" is not a whole number', "fix: use a number such as 8"]),
        ("config.yaml", b"hermesd: {workers: {memory_hard: 2GBB}}\n",
         ['hermesd.workers.memory_hard: "2GBB" is not a size', "fix: use 512M, 2G"]),
        ("config.yaml", b"mcp_servers:\n  github: {args: [x]}\n",
         [":2:", "mcp_servers.github: has no command", "fix: add command:"]),
        ("config.yaml", b"hermesd:\n  agent: d\xe9mo\n", [":2:11", "is not UTF-8: byte 0xe9", "fix: save it"]),
        (".env", b"A=1\nB=\xff\n", [":2:3", ".env is not UTF-8: byte 0xff", "fix: save it"]),
        ("gateway.json", b"{", [":1:2", "broken JSON", "fix: mend it"]),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_named_with_line_column_and_what_would_be_right(
    home: Path, file: str, content: bytes, told: list[str]
) -> None:
    (home / file).write_bytes(content)
    done = program(home, "hermesctl", "config", "check")
    assert (done.returncode, done.stdout) == (6, "")
    assert f"  --> {home}/{file}" in done.stderr
    for words in told:
        assert words in done.stderr


def test_a_start_says_the_same_with_78(home: Path) -> None:
    (home / "config.yaml").write_text("hermesd: {workers: {max: 0, max_turns: x}, busy: stear}\n")
    start, check = program(home, "hermesd", "--check"), program(home, "hermesctl", "config", "check")
    assert (start.returncode, check.returncode) == (78, 6)
    assert start.stderr == check.stderr
    assert start.stderr.count("  fix: ") == 3


def test_a_configuration_that_cannot_be_read_is_named(home: Path) -> None:
    (home / "other").mkdir()
    done = program(home, "hermesctl", "config", "check", str(home / "other"))
    assert done.returncode == 6
    assert re.search(r"error: cannot read the configuration: Is a directory\n  --> .*other\n  fix: ", done.stderr)


def test_check_looks_for_what_the_configuration_names(home: Path) -> None:
    lines = [
        "hermesd: {agnet: demo, agent: 'my_agents:make'}",
        "platforms:",
        "  fakee: {enabled: true}",
        "  slack: {enabled: false}",
        "mcp_servers:",
        "  gone: {command: no-such-program, args: [x]}",
        "  off: {command: no-such-program, enabled: false}",
        f"  plain: {{command: {home}/config.yaml}}",
        "  fine: {command: sh}",
    ]
    (home / "config.yaml").write_text("\n".join(lines))
    done = program(home, "hermesd", "--check")
    assert done.returncode == 78
    file = f"{home}/config.yaml"
    for told in (
        f"warning: hermesd.agnet: is not a known key and has no effect\n  --> {file}:1:11\n  fix: did you mean agent?",
        f"warning: platforms.fakee: is no platform that this hermesd knows, and stays unavailable\n  --> {file}:3:10\n"
        "  fix: did you mean fake?",
        'warning: mcp_servers.gone.command: "no-such-program", the command of the MCP server gone, is not found on the '
        f"PATH\n  --> {file}:6:19\n  fix: install it, or write its full path; PATH is /",
        "mcp_servers.plain.command",
        f"cannot be run\n  --> {file}:8:20\n  fix: chmod +x {file}",
        "error: hermesd.agent: cannot load agent 'my_agents:make': there is no module 'my_agents'",
    ):
        assert told in done.stderr, done.stderr
    for untold in ("slack", ".off", ".fine", "Traceback"):
        assert untold not in done.stderr
    assert [path.name for path in home.iterdir()] == ["config.yaml"]


def test_check_imports_the_agent_in_a_process_of_its_own_that_leaves_nothing(home: Path) -> None:
    mark = home / "imported"
    (home / "agents").mkdir()
    (home / "agents" / "talkative.py").write_text(
        "import os, pathlib, subprocess, sys, threading\n"
        f"pathlib.Path({str(mark)!r}).write_text(str(os.getpid()))\n"
        "print('hello from the import')\n"
        "subprocess.Popen(['sleep', '600'])\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "def make(session): ...\n"
    )
    (home / "config.yaml").write_text(f"hermesd: {{agent: 'talkative:make', agent_path: {home}/agents}}\n")
    done = program(home, "hermesd", "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"the configuration of {home} is fine\n", "")
    assert not Path(f"/proc/{int(mark.read_text())}").exists()
    (home / "agents" / "talkative.py").write_text("import sys\nsys.exit(3)\n")
    done = program(home, "hermesd", "--check")
    assert done.returncode == 78
    assert "importing it ended with SystemExit(3)" in done.stderr


def test_a_home_that_may_not_be_looked_at_is_named(make_home: Callable[[str], Path],
                                                   lacking: Callable[[str], NoReturn]) -> None:  # fmt: skip
    if not can_drop_privileges():
        lacking("needs root and setpriv to become an ordinary user")
    daemon = Daemon(make_home("home"), unprivileged=True)
    # Whoever may read every file may still not follow this link.
    elsewhere = "/proc/1/cwd/home"
    for name, status in (("hermesd", 1), ("hermesctl", 4)):
        command = daemon.command(name)
        command[command.index("--home") + 1] = elsewhere
        done = subprocess.run(
            [*command, *(["status"] if name == "hermesctl" else [])], env=daemon.env, capture_output=True, text=True,
            timeout=60,
        )  # fmt: skip
        assert done.returncode == status, done
        assert re.match(rf"error: cannot .*{elsewhere}.*(denied|may not)", done.stderr), done.stderr
        assert "Traceback" not in done.stderr


# ---- a running hermesd -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taking:
        yield int(taking.getsockname()[1])


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    config = {
        "mcp_servers": {"gone": {"command": "no-such-program"}, "time": TIME},
        "platforms": {"api_server": {"enabled": True, "extra": {"port": 0, "max_body": 20 * MIB}}},
    }
    with running(config) as made:
        yield made


def complete(daemon: Daemon, body: bytes) -> tuple[int, dict[str, Any]]:
    """One request for the session "me"."""
    (platform,) = (row for row in daemon.json("status")["platforms"] if row["name"] == "api_server")
    request = urllib.request.Request(
        f"{platform['describe']['url']}/v1/chat/completions",
        body,
        {"Content-Type": "application/json", "X-Hermes-Session-Id": "me"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def said(text: str) -> bytes:
    return json.dumps({"model": "hermes-agent", "messages": [{"role": "user", "content": text}]}).encode()


def test_a_missing_mcp_command_stops_nothing_and_is_named_by_log_doctor_and_status(daemon: Daemon) -> None:
    told = '"no-such-program", the command of the MCP server gone, is not found on the PATH'
    (line,) = (line for line in (daemon.home / "hermesd/logs/hermesd.log").read_text().splitlines() if "gone" in line)
    assert told in json.loads(line)["msg"]
    (finding,) = (one for one in daemon.json("doctor")["findings"] if one["id"] == "mcp")
    assert told in finding["message"]
    assert "config.yaml" in finding["message"]
    assert finding["fix"].startswith("install it, or write its full path; PATH is ")
    assert any(warning["id"] == "mcp" for warning in daemon.json("status")["warnings"])
    done = daemon.ctl("chat", input='!call gone.x {}\n!call time.get_current_time {"timezone": "UTC"}\n')
    assert "command not found on PATH" in done.stdout + done.stderr
    assert "datetime" in done.stdout


def test_a_port_in_use_is_told_with_its_holder_and_what_to_do(make_home: Callable[[str], Path], taken: int) -> None:
    config = {"platforms": {"api_server": {"enabled": True, "extra": {"port": taken}}}}
    with Daemon(make_home("home"), json.dumps(config)) as daemon:
        daemon.start()

        def backing_off() -> dict[str, Any] | None:
            """For the moment of each new try it is "connecting"."""
            status = daemon.json("status")
            (row,) = (row for row in status["platforms"] if row["name"] == "api_server")
            return {**status, "api_server": row} if row["state"] == "backing_off" else None

        status = wait_until(backing_off, what="it waits for the port")
        assert f"127.0.0.1:{taken}: the port is in use by " in status["api_server"]["detail"]
        assert f"(pid {os.getpid()})" in status["api_server"]["detail"]
        (warning,) = (one for one in status["warnings"] if one["id"] == "platform.api_server")
        assert warning["fix"].startswith("set API_SERVER_PORT (platforms.api_server.extra.port) to a free port")


def test_a_request_that_is_no_utf8_or_too_large_is_refused_and_the_next_one_answered(daemon: Daemon) -> None:
    status, answer = complete(daemon, said("x").replace(b"x", b"caf\xe9"))
    assert status == 400
    assert "UTF-8" in answer["error"]["message"] or "utf-8" in answer["error"]["message"]
    status, answer = complete(daemon, said("x" * (21 * MIB)))
    assert (status, answer["error"]["code"]) == (413, "request_too_large")
    assert complete(daemon, said("one"))[0] == 200


def test_a_message_that_the_wire_cannot_carry_is_answered_and_the_conversation_goes_on(daemon: Daemon) -> None:
    assert complete(daemon, said("I like swans"))[0] == 200
    pid = daemon.worker_of("agent:main:api_server:dm:me")["pid"]
    status, answer = complete(daemon, said("x" * (9 * MIB)))
    assert status >= 400
    assert "This message cannot be given to the agent" in answer["error"]["message"]
    assert "8388608 at most" in answer["error"]["message"]
    status, answer = complete(daemon, said("!history"))
    assert "swans" in answer["choices"][0]["message"]["content"]
    assert daemon.worker_of("agent:main:api_server:dm:me")["pid"] == pid


def test_hermesctl_chat_leaves_out_a_line_that_is_too_long_and_takes_any_bytes(daemon: Daemon) -> None:
    done = subprocess.run(
        daemon.command("hermesctl", "chat", "bytes"), env=daemon.env, capture_output=True, timeout=60,
        input=b"x" * 300_000 + b"\ncaf\xe9 au lait\n",
    )  # fmt: skip
    assert done.returncode == 1
    assert "You said: caf\N{REPLACEMENT CHARACTER} au lait" in done.stdout.decode()
    assert "not sent: 300000 characters; a message may have 262144" in done.stderr.decode()
    assert "1 message without an answer" in done.stderr.decode()


def test_the_console_leaves_out_a_line_that_is_too_long_and_takes_any_bytes(home: Path) -> None:
    daemon = Daemon(home)
    done = subprocess.run(
        daemon.command("hermesd", "--console"), env=daemon.env, capture_output=True, timeout=60,
        input=b"caf\xe9\n" + b"x" * (2 * MIB) + b"\nlast\n",
    )  # fmt: skip
    assert done.returncode == 1
    shown = done.stdout.decode()
    assert "You said: caf\N{REPLACEMENT CHARACTER}" in shown
    assert "You said: last" in shown
    assert "not accepted: a line of 2097152 bytes; a message may have 1048576" in done.stderr.decode()
