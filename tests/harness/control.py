"""A real control server in a process of its own, hermesctl as its user runs it, and a terminal to run it in."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hermesd.supervisor.control.client import call
from hermesd.supervisor.instance.paths import paths_of

HOST = Path(__file__).parent / "programs" / "control_host.py"
HERMESCTL = Path(sys.executable).parent / "hermesctl"
REST, SPIN = "agent:main:local:dm:rest", "agent:main:local:dm:spin"


class ControlHost:
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
        return subprocess.run(self.command(*args), capture_output=True, text=True, timeout=60.0, input=lines)

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
        connection.settimeout(30.0)
        connection.connect(str(self.socket))
        return connection

    def end(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Tmux:
    """A terminal of 110 by 24 that a program runs in."""

    def __init__(self, directory: Path, command: list[str]) -> None:
        self._server = str(directory / "tmux")
        quoted = " ".join(f"'{part}'" for part in command)
        script = f"echo before; {quoted}; echo after $?; stty -a | grep -o '.icanon'; cat"
        self.run("-f", "/dev/null", "new-session", "-d", "-x", "110", "-y", "24", script)

    def run(self, *args: str) -> str:
        return subprocess.run(
            ["tmux", "-S", self._server, *args], capture_output=True, text=True, check=True, timeout=30,
            env=dict(os.environ),  # without the COLUMNS that the readline library has set in this process
        ).stdout  # fmt: skip

    def keys(self, *keys: str) -> None:
        self.run("send-keys", *keys)

    def wait_for(self, pattern: str) -> str:
        deadline = time.monotonic() + 30.0
        while not re.search(pattern, shown := self.run("capture-pane", "-p"), re.MULTILINE):
            assert time.monotonic() < deadline, f"{pattern} did not come up in:\n{shown}"
            select.select([], [], [], 0.05)
        return shown

    def close(self) -> None:
        self.run("kill-server")
