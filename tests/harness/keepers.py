"""Real keepers, with a test as their supervisor, and as several one after the other."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hermesd.ipc.codec import Codec, pack_value
from hermesd.ipc.framing import Deframer, frame
from hermesd.ipc.keeping import FROM_KEEPER, TO_KEEPER, Claim, Fork, Forked, KeeperReady, Leave
from hermesd.ipc.messages import Message
from hermesd.workers.containment import Unsupported, cgroupfs, sweep
from hermesd.workers.containment.identity import start_ticks, stat_fields
from hermesd.workers.containment.tag import make_tag
from hermesd.workers.spec import KeeperSpec, WorkerSpec

from .census import wait_ended

M = TypeVar("M", bound=Message)
PATIENCE = 60.0
LINKED = 4  # threads of a worker that is up: its main thread, the link thread and two of ZeroMQ


def wait_until(reached: Callable[[], Any], what: str, seconds: float = PATIENCE) -> float:
    """Ask until it is so; returns how long that took. For what tells nobody: the end of somebody else's process."""
    began = time.monotonic()
    while not reached():
        assert time.monotonic() - began < seconds, f"waited {seconds} s for {what}"
        time.sleep(0.005)
    return time.monotonic() - began


def runs(pid: int) -> bool:
    fields = stat_fields(pid)
    return fields is not None and fields[0] not in (b"Z", b"X")


class Instance:
    """One instance's directory, lock and keepers. ``close`` checks that nothing is left of it."""

    def __init__(self, path: Path, containment: str):
        self.path = path
        self.containment = containment
        self.id = secrets.token_hex(6)
        self.lock = path / "hermesd.lock"
        self.list = path / "keepers.json"
        self._held: int | None = None
        self.keepers: list[KeeperProcess] = []

    def take_lock(self) -> None:
        """As a living hermesd does."""
        self._held = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def free_lock(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def keeper(self, *, adopt_timeout: float = 30.0, guarded: bool = False, **fields: Any) -> KeeperProcess:
        made = KeeperProcess(self, adopt_timeout, guarded, **fields)
        self.keepers.append(made)
        return made

    def write_list(self, *keepers: KeeperProcess) -> None:
        entries = [
            {"pid": each.pid, "start_ticks": each.start_ticks, "socket": each.spec.socket, "secret": each.spec.secret}
            for each in keepers
        ]
        scratch = self.list.with_suffix(".new")
        scratch.write_text(json.dumps({"schema": 1, "keepers": entries}))
        scratch.rename(self.list)

    def left(self) -> list[str]:
        """Processes, cgroups and keepers' sockets of the instance."""
        found = [f"{each.pid} {each.command}" for each in sweep.find(self.id)]
        with contextlib.suppress(Unsupported):
            found += cgroupfs.find_named([f"hermesd-{self.id}"])
        return found + [str(path) for path in self.path.glob("keeper-*.sock")]

    def wait_clean(self, seconds: float = PATIENCE) -> float:
        began = time.monotonic()
        while left := self.left():
            assert time.monotonic() - began < seconds, f"left after {seconds} s: {left}"
            wait_ended([each.pid for each in sweep.find(self.id)], began + seconds - time.monotonic())
            time.sleep(0.005)  # for what is removed after the last process
        return time.monotonic() - began

    def close(self) -> None:
        self.free_lock()
        try:
            for keeper in self.keepers:
                keeper.end()
                # A supervisor does this when its keeper was killed.
                Path(keeper.spec.socket).unlink(missing_ok=True)
            self.wait_clean(5.0)
        finally:
            for keeper in self.keepers:
                keeper.kill()
            sweep.sweep(self.id)


class KeeperProcess:
    """``python -m hermesd.workers.keeper``, the test being its parent."""

    def __init__(self, instance: Instance, adopt_timeout: float, guarded: bool, **fields: Any):
        self.instance = instance
        self.spec = KeeperSpec(
            instance=instance.id,
            secret=secrets.token_hex(16),
            socket=str(instance.path / f"keeper-{secrets.token_hex(4)}.sock"),
            containment=instance.containment,
            adopt_timeout=adopt_timeout,
            agent="demo",
            lock=str(instance.lock) if guarded else "",
            keepers=str(instance.list),
            **fields,
        )
        self.log = instance.path / "keeper.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hermesd.workers.keeper"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "HERMESD_TAG": make_tag(instance.id)},
                start_new_session=True,
            )
        assert self.process.stdin is not None
        with self.process.stdin as told:
            told.write(pack_value(self.spec))
        self.pid = self.process.pid
        self.start_ticks = start_ticks(self.pid) or 0
        self._supervisors: list[Supervisor] = []

    def claim(self, **fields: Any) -> Supervisor:
        """A new supervisor; the one before stays as it is."""
        made = Supervisor(self, **fields)
        self._supervisors.append(made)
        return made

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        """In order, if it is still there."""
        if self.process.poll() is None:
            self.claim().send(Leave())
            self.wait()
        for supervisor in self._supervisors:
            supervisor.close()

    def wait(self, seconds: float = PATIENCE) -> int:
        return self.process.wait(seconds)


class Supervisor:
    """A connection that has claimed a keeper."""

    def __init__(self, keeper: KeeperProcess, **fields: Any):
        self.keeper = keeper
        self.heard: list[Message] = []
        self._codec = Codec(*TO_KEEPER, *FROM_KEEPER)
        self._deframer = Deframer()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        try:
            wait_until(self._connect, "the keeper's socket")
            self.send(Claim(keeper.spec.secret, **fields))
            self.ready = self.hear(KeeperReady)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> bool:
        try:
            self._socket.connect(self.keeper.spec.socket)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def send(self, message: Message, descriptor: int | None = None) -> None:
        data = frame(self._codec.encode(message))
        if descriptor is None:
            self._socket.sendall(data)
        else:
            socket.send_fds(self._socket, [data], [descriptor])

    def hear(self, kind: type[M]) -> M:
        """The next message of this kind; what comes before it is kept in ``heard``."""
        while True:
            for index, message in enumerate(self.heard):
                if isinstance(message, kind):
                    return self.heard.pop(index)  # type: ignore[return-value]
            data = self._socket.recv(65536)
            assert data, f"the keeper has closed the connection: {self.keeper.log.read_text()}"
            self.heard += [self._codec.decode(each).message for each in self._deframer.feed(data)]

    def send_fork(self, spec: WorkerSpec) -> None:
        told = os.memfd_create("spec")
        try:
            os.write(told, pack_value(spec))
            os.lseek(told, 0, os.SEEK_SET)
            self.send(Fork(spec.worker, spec.tag), told)
        finally:
            os.close(told)

    def fork(self, worker: str, **fields: Any) -> tuple[WorkerSpec, Forked]:
        """A worker whose supervisor never answers, unless the test has bound its endpoint. It has its link thread."""
        spec = self.spec_of(worker, **fields)
        self.send_fork(spec)
        forked = self.hear(Forked)
        wait_until(lambda: len(os.listdir(f"/proc/{forked.pid}/task")) >= LINKED, "the worker's threads")
        return spec, forked

    def spec_of(self, worker: str, **fields: Any) -> WorkerSpec:
        instance = self.keeper.instance
        given: dict[str, Any] = {
            "worker": worker,
            "instance": instance.id,
            "tag": make_tag(instance.id),
            "endpoint": f"ipc://{instance.path}/workers.sock",
            "token": secrets.token_hex(16),
            "containment": self.ready.containment,
            "container": self.place_of(worker),
            "agent": "demo",
            "wire_name": f"{worker}.{secrets.token_hex(4)}",
            "keeper": self.keeper.pid,
            "environment": {"PATH": os.environ["PATH"]},
            "log_dir": str(instance.path),
            "adopt_timeout": 30.0,
            "heartbeat": 0.05,
        }
        return WorkerSpec(**(given | fields))

    def place_of(self, worker: str) -> str:
        if self.ready.containment != "cgroup":
            return ""
        (base,) = cgroupfs.find_named([f"hermesd-{self.keeper.instance.id}"])
        return f"{base}/w-{worker}"

    def close(self) -> None:
        """As a supervisor that is killed."""
        self._socket.close()
