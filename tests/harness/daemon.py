"""An installed hermesd with a home of its own, started and looked at as a user would."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hermesd.supervisor.control.client import call
from hermesd.supervisor.control.errors import ControlError
from hermesd.supervisor.instance.paths import paths_of

from .census import wait_ended
from .figures import StopWatch

BIN = Path(sys.executable).parent
NOBODY = 65534

START_SECONDS = 60.0
ANSWER_SECONDS = 30.0


class CannotStart(Exception):
    """hermesd did not come up; the text is what it said."""

    def __init__(self, status: int, text: str):
        super().__init__(f"exit status {status}: {text}")
        self.status = status
        self.text = text


class Daemon:
    """One home and its hermesd. ``unprivileged``: run as an ordinary user, from root.

    The ordinary user keeps the right to *read* everything, because an interpreter below /root is of no use to it else;
    it can write nowhere but in its home, and make no cgroup.
    """

    def __init__(
        self, home: Path, config: str = "", *, env: Mapping[str, str] | None = None, unprivileged: bool = False
    ):
        self.home = home
        self.unprivileged = unprivileged
        self.env = {**_clean_environment(home), **(env or {})}
        self.pid = 0
        self.ready_at = 0.0  # Unix seconds, of the last start
        self._pidfd = -1
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (home / "config.yaml").write_text(config, "utf-8")
        if unprivileged:
            for path in (home, home / "config.yaml"):
                os.chown(path, NOBODY, NOBODY)

    @property
    def instance(self) -> str:
        return hashlib.sha256(os.fsencode(os.path.realpath(self.home))).hexdigest()[:12]

    def command(self, program: str, *args: str) -> list[str]:
        prefix = unprivileged_prefix() if self.unprivileged else []
        return [*prefix, str(BIN / program), "--home", str(self.home), *args]

    def start(self, *args: str) -> Daemon:
        """``hermesd --daemon``; returns when it is ready."""
        done = subprocess.run(
            self.command("hermesd", "--daemon", *args),
            env=self.env, capture_output=True, text=True, timeout=START_SECONDS + 10, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode != 0:
            raise CannotStart(done.returncode, done.stderr)
        self.hold(int(done.stdout))
        self.ready_at = time.time()
        return self

    def hold(self, pid: int) -> None:
        self.release()
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)

    def release(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1

    @property
    def running(self) -> bool:
        """A hermesd is held, dead or alive: `wait_dead` tells which."""
        return self._pidfd >= 0

    def signal(self, number: int) -> None:
        signal.pidfd_send_signal(self._pidfd, number)

    def wait_dead(self, seconds: float) -> bool:
        import select

        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def kill(self) -> None:
        """``kill -9``, and wait until the kernel says so: a thread of it may be waiting for the disk."""
        self.signal(signal.SIGKILL)
        assert self.wait_dead(60.0)

    def ctl(
        self,
        *args: str,
        timeout: float = 30.0,
        input: str | None = None,  # noqa: A002 - as subprocess has it
    ) -> subprocess.CompletedProcess[str]:
        command = self.command("hermesctl", *args)
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=timeout, input=input)

    def json(self, *args: str, timeout: float = 30.0) -> Any:
        done = self.ctl("--json", *args, timeout=timeout)
        if not done.stdout:
            raise AssertionError(f"hermesctl {' '.join(args)}: exit {done.returncode}, {done.stderr}")
        return json.loads(done.stdout)

    def stop(self, timeout: float = 30.0) -> float:
        """``hermesctl stop``; returns the seconds it took."""
        watch = StopWatch()
        done = self.ctl("stop", timeout=timeout)
        took = watch.seconds()
        assert done.returncode == 0, done.stderr
        self.release()
        return took

    def ask(self, verb: str, **params: Any) -> dict[str, Any]:
        """What ``hermesctl --json`` would show, without a program's start: for looking again and again.

        Raises AssertionError when nobody answers.
        """
        try:
            return call(paths_of(self.home, self.env).control_socket, verb, params, budget=ANSWER_SECONDS)
        except ControlError as error:
            raise AssertionError(f"{verb}: {error}") from error

    def workers(self) -> list[dict[str, Any]]:
        """The rows of ``hermesctl ps`` that have a session, by its name."""
        rows = [row for row in self.ask("ps", tree=False)["workers"] if row["session"]]
        return sorted(rows, key=lambda row: str(row["session"]))

    def worker_of(self, session: str) -> dict[str, Any]:
        return next(row for row in self.workers() if row["session"] == session)

    def wait_forked(self) -> list[dict[str, Any]]:
        """Until every worker that was asked for, spares too, is a process. Returns their rows of ``ps``."""
        until = time.monotonic() + ANSWER_SECONDS
        while True:
            rows: list[dict[str, Any]] = self.ask("ps", tree=False)["workers"]
            if all(row["pid"] for row in rows if row["worker"]):
                return rows
            assert time.monotonic() < until, f"they are not forked: {rows}"

    # ---- what is left ------------------------------------------------------------------------------------------------

    def processes(self, *, but_hermesd: bool = False) -> list[int]:
        """Everything of this instance: by its tag, or in its cgroups."""
        mark = f"HERMESD_TAG={self.instance}-".encode()
        found = set()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                tagged = mark in (entry / "environ").read_bytes()
                grouped = f"/hermesd-{self.instance}/" in (entry / "cgroup").read_text()
                itself = self.pid == int(entry.name) and not but_hermesd
                if (tagged or grouped or itself) and _runs(entry):
                    found.add(int(entry.name))
        return sorted(found - ({self.pid} if but_hermesd else set()))

    def cgroups(self) -> list[str]:
        return [
            str(Path(top) / name)
            for mount in _cgroup_mounts()
            for top, names, _ in os.walk(mount)
            for name in names
            if name == f"hermesd-{self.instance}"
        ]

    def sockets(self) -> list[str]:
        run = self.home / "hermesd" / "run"
        moved = [*Path("/tmp").glob(f"hermesd-*{self.instance}*")]
        return [str(path) for place in (run, *moved) if place.is_dir() for path in place.iterdir() if path.is_socket()]

    def wait_nothing_left(self, seconds: float, *, but_hermesd: bool = False) -> float:
        """Seconds until no process is left; raises with the list when they are not enough."""
        watch = StopWatch()
        while left := self.processes(but_hermesd=but_hermesd):
            if watch.seconds() > seconds:
                raise AssertionError(f"{len(left)} processes left after {seconds} s: {[_command(pid) for pid in left]}")
            wait_ended(left, seconds - watch.seconds())
        return watch.seconds()

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pidfd >= 0:
            if not self.wait_dead(0):
                self.signal(signal.SIGCONT)
                self.signal(signal.SIGTERM)
                if not self.wait_dead(20.0):
                    self.kill()
            self.release()


def turn_runs(row: Mapping[str, Any]) -> bool:
    """A row of ``ps`` whose turn was accepted by its worker, and that is on disk.

    ``state`` is busy a moment earlier: a worker that is killed in that moment leaves a turn that another begins anew.
    """
    return row["state"] == "busy" and row.get("turn_state") == "running"


def unprivileged_prefix() -> list[str]:
    setpriv = shutil.which("setpriv")
    assert setpriv is not None
    return [
        setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
        "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=-all,+dac_read_search",
        "--bounding-set=-all,+dac_read_search",
    ]  # fmt: skip


def can_drop_privileges() -> bool:
    return os.geteuid() == 0 and shutil.which("setpriv") is not None


def _clean_environment(home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ", "TERM") if name in os.environ}
    return {**kept, "HOME": str(home.parent), "PATH": f"{BIN}{os.pathsep}{kept.get('PATH', '')}"}


def _cgroup_mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith("cgroup2 "):
            yield left.split()[4]


def _runs(entry: Path) -> bool:
    """Not a zombie: those wait for a parent that is not ours to hurry."""
    return (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"


def _command(pid: int) -> str:
    try:
        return f"{pid} {Path(f'/proc/{pid}/cmdline').read_bytes().replace(bytes(1), b' ').decode(errors='replace')}"
    except OSError:
        return str(pid)
