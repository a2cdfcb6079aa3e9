"""Runs `keeper.py` as root, as nobody, or as nobody with a delegated cgroup, and watches trees by their connections."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.lacking import lacking

from hermesd.workers.containment import ContainmentError, Unsupported, cgroupfs, choose, sweep
from hermesd.workers.containment.contract import Leftover
from hermesd.workers.containment.tag import VARIABLE, make_tag

HERE = Path(__file__).parent
WORKERS = HERE.parent.parent.parent / "workers"
NOBODY = 65534
# setpriv itself execs with root's capabilities; only the exec after it shows what nobody may run.
SETPRIV = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "sh", "-c", 'exec "$@"', "sh"]
# Strategy and user; "delegated" is a cgroup that was handed to an unprivileged user, as systemd's Delegate=yes does.
SETTINGS = ["cgroup-self", "subreaper-self", "subreaper-nobody", "cgroup-delegated"]


def new_instance() -> str:
    return secrets.token_hex(6)


class Oracle:
    """Counts the living of a tree: each of its processes holds a connection to here."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        self._open: dict[int, socket.socket] = {}
        self._poller = select.poll()
        self._poller.register(self._listener, select.POLLIN)
        self.text = ""
        self.accepted = 0

    @property
    def alive(self) -> int:
        while self._step(0):
            pass
        return len(self._open)

    @property
    def cpu_seconds(self) -> float:
        """What the tree's processes said they burnt."""
        return sum(float(line.split()[1]) for line in self.text.splitlines() if line.startswith("cpu "))

    def wait_alive(self, count: int, seconds: float = 40.0) -> None:
        self._wait(lambda: len(self._open) == count, seconds, f"{count} processes to connect")

    def wait_dead(self, seconds: float = 20.0) -> None:
        self._wait(lambda: not self._open, seconds, "all processes to die")

    def wait_text(self, text: str, count: int = 1, seconds: float = 40.0) -> None:
        self._wait(lambda: self.text.count(text) >= count, seconds, f"{count} times {text!r}")

    def close(self) -> None:
        for connection in (self._listener, *self._open.values()):
            connection.close()

    def _wait(self, reached, seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not reached():
            left = deadline - time.monotonic()
            if left <= 0:
                pytest.fail(f"waited {seconds} s for {what}: {len(self._open)} connected, heard {self.text[-200:]!r}")
            self._step(left)

    def _step(self, seconds: float) -> bool:
        """Take what has happened, waiting for it at most ``seconds``; False if nothing has."""
        events = self._poller.poll(int(seconds * 1000))
        for descriptor, _ in events:
            if descriptor == self._listener.fileno():
                connection, _ = self._listener.accept()
                self._open[connection.fileno()] = connection
                self._poller.register(connection, select.POLLIN)
                self.accepted += 1
                continue
            try:
                data = self._open[descriptor].recv(65536)
            except ConnectionResetError:
                data = b""
            self.text += data.decode()
            if not data:
                self._poller.unregister(descriptor)
                self._open.pop(descriptor).close()
        return bool(events)


class KeeperProcess:
    """`keeper.py`, spoken to by method: ``keeper.kill(worker="a")``."""

    def __init__(self, strategy: str, instance: str, *, prefix: list[str], python: str, links: str):
        self.instance = instance
        self.python = python
        environment = {VARIABLE: make_tag(instance), "PYTHONPATH": links, "PATH": os.environ["PATH"]}
        self._process = subprocess.Popen(
            [*prefix, python, "-B", str(HERE / "keeper.py"), strategy, instance],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
            text=True,
        )
        self.hello = self._read()

    def __getattr__(self, verb: str):
        def call(**arguments) -> dict:
            self._process.stdin.write(json.dumps([verb, arguments]) + "\n")
            self._process.stdin.flush()
            answer = self._read()
            assert "error" not in answer, answer["error"]
            return answer

        return call

    def _read(self) -> dict:
        line = self._process.stdout.readline()
        assert line, f"the keeper ended with {self._process.wait()}"
        return json.loads(line)

    def tree(self, worker: str, shape: str, oracle: Oracle, *numbers: int) -> dict:
        argv = [self.python, "-I", "-S", str(HERE / "tree.py"), shape, str(oracle.port), *map(str, numbers)]
        return self.fork(worker=worker, argv=argv)

    def kill_hard(self) -> None:
        self._process.kill()
        if not self._process.stdin.closed:
            self.end()

    def end(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


class WorkerProcess:
    """`worker.py` inside a container of the keeper, spoken to by method."""

    def __init__(self, keeper: KeeperProcess, worker: str):
        self.python = keeper.python
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = str(listener.getsockname()[1])
            script = str(HERE / "worker.py")
            strategy = keeper.hello["name"]
            argv = [keeper.python, "-B", script, strategy, keeper.instance, worker, port]
            self.birth = keeper.fork(worker=worker, argv=argv)
            listener.settimeout(20)
            self._connection, _ = listener.accept()
        self._connection.settimeout(30)
        self._stream = self._connection.makefile("rw", encoding="utf-8")

    def __getattr__(self, verb: str):
        def call(**arguments) -> dict:
            self._stream.write(json.dumps([verb, arguments]) + "\n")
            self._stream.flush()
            line = self._stream.readline()
            assert line, "the worker has ended"
            return json.loads(line)

        return call

    def tree(self, server: str, shape: str, oracle: Oracle, *numbers: int) -> dict:
        argv = [self.python, "-I", "-S", str(HERE / "tree.py"), shape, str(oracle.port), *map(str, numbers)]
        return self.start(server=server, argv=argv)

    def close(self) -> None:
        self._stream.close()
        self._connection.close()


def unprivileged_python(links: str) -> str:
    """An interpreter that nobody may run, with our packages readable; skips the test otherwise."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    if not shutil.which("setpriv"):
        lacking("needs setpriv (util-linux)")
    code = "import sys, hermesd.workers.containment; assert sys.version_info >= (3, 11)"
    for python in (sys.executable, shutil.which("python3", path="/usr/bin:/bin:/usr/local/bin")):
        if python is None:
            continue
        with contextlib.suppress(OSError):
            command = [*SETPRIV, python, "-B", "-c", code]
            if subprocess.run(command, env={"PYTHONPATH": links}, cwd="/", capture_output=True).returncode == 0:
                return python
    lacking("no Python 3.11 and checkout that an unprivileged user may read")


@contextlib.contextmanager
def package_links() -> Iterator[str]:
    """A folder, readable by everybody, in which hermesd.workers is found: only the standard library is needed."""
    with tempfile.TemporaryDirectory(prefix="hermesd-links-") as links:
        os.chmod(links, 0o755)
        os.mkdir(f"{links}/hermesd", 0o755)
        os.chmod(f"{links}/hermesd", 0o755)
        os.symlink(WORKERS, f"{links}/hermesd/workers")
        yield links


@contextlib.contextmanager
def delegated_cgroup() -> Iterator[str]:
    try:
        place = f"{cgroupfs.directory_of()}/delegated-{secrets.token_hex(4)}"
        os.mkdir(place)
    except (Unsupported, OSError) as problem:
        lacking(f"cannot delegate a cgroup: {problem}")
    try:
        for name in ("", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"):
            os.chown(place + name, NOBODY, NOBODY)
        yield place
    finally:
        os.rmdir(place)


@contextlib.contextmanager
def run_keeper(setting: str, instance: str | None = None) -> Iterator[KeeperProcess]:
    """A keeper under one of `SETTINGS`; afterwards it has left, and nothing of its instance may be there."""
    strategy, _, user = setting.partition("-")
    instance = instance or new_instance()
    with contextlib.ExitStack() as stack:
        links = stack.enter_context(package_links())
        python, prefix = sys.executable, []
        if user != "self":
            python, prefix = unprivileged_python(links), list(SETPRIV)
        if user == "delegated":
            place = stack.enter_context(delegated_cgroup())
            prefix = ["sh", "-c", f'echo 0 > {place}/cgroup.procs; exec "$@"', "sh", *prefix]
        if strategy == "cgroup" and user == "self":
            skip_without_cgroup(instance)
        keeper = KeeperProcess(strategy, instance, prefix=prefix, python=python, links=links)
        try:
            assert "error" not in keeper.hello, keeper.hello["error"]
            yield keeper
            if keeper._process.poll() is None:
                keeper.leave()
        except BaseException:
            keeper.kill_hard()
            sweep.sweep(instance)
            raise
        finally:
            if keeper._process.stdin.closed:
                keeper._process.wait(10)
            else:
                keeper.end()
    assert_clean(instance)


def find(instance: str, count: int, seconds: float = 20.0) -> list[Leftover]:
    """What is left of it, once that is so many: whoever has forked a daemon may be in the middle of its own exit."""
    deadline = time.monotonic() + seconds
    while len(found := sweep.find(instance)) != count:
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds} s for {count} processes, found {len(found)}: {found}")
        time.sleep(0.01)
    return found


def skip_without_cgroup(instance: str) -> None:
    try:
        choose(instance, "cgroup")
    except ContainmentError as reason:
        lacking(str(reason))


def assert_clean(instance: str) -> None:
    assert sweep.find(instance) == []
    with contextlib.suppress(Unsupported):
        assert cgroupfs.find_named([f"hermesd-{instance}"]) == []
