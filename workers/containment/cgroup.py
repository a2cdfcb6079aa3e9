"""Containment by cgroup v2: the kernel knows who belongs, kills all at once and counts the CPU time of the dead.

    <where hermesd was started>/hermesd-<instance>/
        keeper/
        w-<worker>/
            agent/                          the worker itself and what its agent starts
            mcp-<server>-<generation>/      one MCP server

Processes sit in leaves only, as the kernel demands before controllers can be switched on for the level above.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping

from . import cgroupfs, clone, naming, prctl, sweep
from .contract import Container, Entry, Leftover, Usage
from .errors import ContainmentError, LeftAlive, Unsupported
from .identity import is_dead, send
from .tag import check_instance, plant, server_tag
from .usage import memory_of

_LEAVE_SECONDS = 2.0


class CgroupContainer:
    """A directory that takes processes itself (a server), or holds leaves that do (a worker)."""

    def __init__(self, base: str, name: str, tag: str, *, is_worker: bool):
        self.name = name
        self.tag = tag
        self.place = f"{base}/{name}"
        self._is_worker = is_worker
        self._leaf = self.place + "/agent" if is_worker else self.place
        self._cpu_seconds = 0.0

    def create(self) -> None:
        try:
            os.mkdir(self.place)
            if self._is_worker:
                os.mkdir(self._leaf)
        except OSError as problem:
            raise ContainmentError(f"cannot make container {self.place}: {problem.strerror}") from problem

    def started(self, pid: int) -> None:
        """The kernel knows already."""

    def fork(self) -> int:
        try:
            return clone.fork_into(self._leaf)
        except Unsupported:
            return os.fork()

    def enter(self) -> None:
        plant(self.tag)
        with contextlib.suppress(PermissionError):  # it leads a session already
            os.setsid()
        # Even a move to where it is already would wait for the whole system.
        if cgroupfs.directory_of() != self._leaf:
            cgroupfs.enter(self._leaf)

    def entry(self) -> Entry:
        death_signal = 0 if self._is_worker else int(signal.SIGKILL)
        return Entry(cgroup=self._leaf, new_session=True, parent_death_signal=death_signal, tag=self.tag)

    def kill_round(self, roots: Iterable[int] = ()) -> bool:
        over = True
        for pidfd in roots:
            if not is_dead(pidfd):
                send(pidfd, signal.SIGKILL)
                over = False
        cgroupfs.kill(self.place)
        if cgroupfs.is_populated(self.place):
            return False
        self.cpu_seconds()  # it cannot be read any more once the directory is gone
        return cgroupfs.remove(self.place) and over

    def members(self) -> tuple[int, ...]:
        return tuple(cgroupfs.members(self.place))

    def cpu_seconds(self) -> float:
        now = cgroupfs.cpu_seconds(self.place)
        if now is not None:
            self._cpu_seconds = now
        return self._cpu_seconds


class CgroupContainment:
    """All containers of one instance below one directory."""

    name = "cgroup"
    exact_cpu = True

    def __init__(self, instance: str, base: str):
        self.instance = check_instance(instance)
        self.base = base

    def prepare(self) -> None:
        keeper = self.base + "/keeper"
        try:
            os.makedirs(keeper, exist_ok=True)
        except OSError as problem:
            raise ContainmentError(f"cannot make container {keeper}: {problem.strerror}") from problem
        cgroupfs.enter(keeper)
        prctl.set_child_subreaper()

    def leave(self) -> None:
        above = posixpath.dirname(self.base)
        cgroupfs.enter(above)
        deadline = time.monotonic() + _LEAVE_SECONDS
        cgroupfs.kill(self.base)
        while not cgroupfs.remove(self.base):
            left = tuple(cgroupfs.members(self.base))
            if time.monotonic() > deadline:
                raise LeftAlive(f"cannot remove {self.base}: processes {left} do not die", left)
            time.sleep(0.001)
            cgroupfs.kill(self.base)

    def register(self, pid: int) -> None:
        """A stray of the keeper needs no proof here: it is still in its worker's cgroup."""

    def unregister(self, pid: int) -> None:
        """See `register`."""

    def worker(self, worker: str, tag: str) -> Container:
        return CgroupContainer(self.base, naming.worker_name(worker), tag, is_worker=True)

    def server(self, worker: str, tag: str, server: str, generation: int) -> Container:
        name = naming.server_name(worker, server, generation)
        return CgroupContainer(self.base, name, server_tag(tag, server, generation), is_worker=False)

    def usage(
        self, containers: Mapping[str, Container], roots: Mapping[str, int], *, memory: bool = False
    ) -> dict[str, Usage]:
        figures = {}
        for key, container in containers.items():
            pids = container.members()
            figures[key] = Usage(
                cpu_seconds=container.cpu_seconds(),
                memory_bytes=memory_of(pids, proportional=memory),
                processes=len(pids),
                pids=pids,
                exact=True,
                proportional=memory,
            )
        return figures

    def reap_adopted(self) -> list[int]:
        return []  # the orphans of a worker go to the keeper, which waits for every child it has

    def find(self, spare: Iterable[int] = ()) -> list[Leftover]:
        return sweep.find(self.instance, spare)

    def sweep(self, spare: Iterable[int] = ()) -> list[Leftover]:
        return sweep.sweep_round(self.instance, spare)


def base_of(instance: str, pid: int | str = "self") -> str:
    """The instance's directory as seen from ``pid``: the one it is below already, else one below where it is now."""
    here = cgroupfs.directory_of(pid)
    name = naming.instance_name(instance)
    head, found, _ = (here + "/").partition(f"/{name}/")
    return f"{head}/{name}" if found else f"{here.rstrip('/')}/{name}"


def probe(instance: str) -> CgroupContainment:
    """Prove all that is needed by doing it with a short-lived child. Raises `Unsupported` with the reason."""
    base = base_of(instance)
    place = f"{base}/probe-{os.getpid()}"
    try:
        os.makedirs(place)
    except OSError as problem:
        with contextlib.suppress(OSError):
            os.rmdir(base)
        raise Unsupported(f"cannot make {place}: {problem.strerror}") from problem
    try:
        if not os.path.exists(place + "/cgroup.kill"):
            raise Unsupported("the kernel is older than 5.14: it has no cgroup.kill")
        _move_and_kill(place)
    except ContainmentError as refusal:
        raise Unsupported(str(refusal)) from refusal
    finally:
        for folder in (place, base):
            with contextlib.suppress(OSError):  # base is in use by a running instance
                os.rmdir(folder)
    return CgroupContainment(instance, base)


def _move_and_kill(place: str) -> None:
    """Put a child into the cgroup, kill it there, remove the cgroup."""
    command = [sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()"]
    try:
        child = subprocess.Popen(command, stdin=subprocess.PIPE)
    except OSError as problem:
        raise Unsupported(f"cannot run {sys.executable} to try it with: {problem.strerror}") from problem
    with child:
        try:
            cgroupfs.write_text(place + "/cgroup.procs", str(child.pid))
            if child.pid not in cgroupfs.members(place):
                raise Unsupported(f"a process that was moved into {place} is not there")
            cgroupfs.kill(place)
            child.wait(_LEAVE_SECONDS)
            if child.returncode != -signal.SIGKILL:
                raise Unsupported(f"cgroup.kill did not kill: the child ended with {child.returncode}")
            if cgroupfs.cpu_seconds(place) is None:
                raise Unsupported(f"{place}/cpu.stat has no usage_usec")
            if not cgroupfs.remove(place):
                raise Unsupported(f"{place} cannot be removed although its only process is dead")
        except OSError as problem:
            raise Unsupported(f"cannot move a child into {place}: {problem.strerror}") from problem
        except subprocess.TimeoutExpired as problem:
            raise Unsupported(f"cgroup.kill did not kill within {_LEAVE_SECONDS} s") from problem
        finally:
            child.kill()
