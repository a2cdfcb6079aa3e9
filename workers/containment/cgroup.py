"""Containment by cgroup v2: the kernel knows who belongs, kills all at once and counts the CPU time of the dead.

    <where hermesd was started>/hermesd-<instance>/
        keeper-<pid>/                       one for each keeper: after a restart of hermesd there may be two
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
from .contract import LEAVE_LOOKS, Container, Entry, Leftover, Usage
from .errors import ContainmentError, LeftAlive, Unsupported
from .identity import is_dead, send
from .tag import check_instance, plant, server_tag
from .usage import memory_of

_LEAVE_SECONDS = 2.0
_PROBE_SECONDS = 10.0  # for the death of a child: a machine that has stood still must not cost an instance its cgroups
_KEEPER_LEAF = "keeper-"
_MAKE_TRIES = 5


class CgroupContainer:
    """A directory that takes processes itself (a server), or holds leaves that do (a worker)."""

    def __init__(self, containment: CgroupContainment, name: str, tag: str, *, is_worker: bool, taken: bool = False):
        self.name = name
        self.tag = tag
        self.place = f"{containment.base}/{name}"
        self._containment = containment
        self._taken = taken
        self._is_worker = is_worker
        self._leaf = self.place + "/agent" if is_worker else self.place
        self._cpu_seconds = 0.0
        self._born_inside = False  # of this process: a child that was cloned into the leaf

    def create(self) -> None:
        self._containment.opened(self)
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
            pid = clone.fork_into(self._leaf)
        except Unsupported:
            return os.fork()
        self._born_inside = pid == 0
        return pid

    def enter(self) -> None:
        plant(self.tag)
        with contextlib.suppress(PermissionError):  # it leads a session already
            os.setsid()
        # Even a move to where it is already would wait for the whole system.
        if not self._born_inside and cgroupfs.directory_of() != self._leaf:
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
        if not (cgroupfs.remove(self.place) and over):
            return False
        self._containment.closed(self)
        if self._taken:
            self._containment.tidy()
        return True

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
        self._open: list[CgroupContainer] = []  # made or taken over by this process, and not over yet

    def prepare(self) -> None:
        leaf = self._leaf()
        for chance in reversed(range(_MAKE_TRIES)):
            try:
                _make(leaf)
            except OSError as problem:
                raise ContainmentError(f"cannot make container {leaf}: {problem.strerror}") from problem
            try:
                cgroupfs.enter(leaf)
                break
            except ContainmentError:
                # A keeper that leaves may have taken it, still empty, for what is left of a dead one.
                if not chance or os.path.isdir(leaf):
                    raise
        prctl.set_child_subreaper()

    def leave(self) -> None:
        cgroupfs.enter(posixpath.dirname(self.base))
        deadline = time.monotonic() + _LEAVE_SECONDS
        for place in [*(container.place for container in self._open), self._leaf()]:
            cgroupfs.kill(place)
            looks = 0
            while not cgroupfs.remove(place):
                left = tuple(cgroupfs.members(place))
                looks += 1
                if time.monotonic() > deadline and looks > LEAVE_LOOKS:
                    raise LeftAlive(f"cannot remove {place}: processes {left} do not die", left)
                time.sleep(0.001)
                cgroupfs.kill(place)
        self._open.clear()
        self.tidy()

    def tidy(self) -> None:
        """Remove what is empty of the instance's place, unless a keeper is at work there.

        What runs without a keeper is left alone: another keeper may be about to take it over.
        """
        if self._has_keeper():
            return
        for folder in cgroupfs.tree(self.base):
            with contextlib.suppress(OSError):
                os.rmdir(folder)

    def opened(self, container: CgroupContainer) -> None:
        self._open.append(container)

    def closed(self, container: CgroupContainer) -> None:
        self._open = [other for other in self._open if other.place != container.place]

    def _leaf(self) -> str:
        return f"{self.base}/{_KEEPER_LEAF}{os.getpid()}"

    def _has_keeper(self) -> bool:
        """Whether a leaf is of a keeper that lives, or is on its way in."""
        try:
            leaves = [name for name in os.listdir(self.base) if name.startswith(_KEEPER_LEAF)]
        except FileNotFoundError:
            return False
        return any(os.path.exists(f"/proc/{leaf.removeprefix(_KEEPER_LEAF)}") for leaf in leaves)

    def register(self, pid: int) -> None:
        """A stray of the keeper needs no proof here: it is still in its worker's cgroup."""

    def unregister(self, pid: int) -> None:
        """See `register`."""

    def worker(self, worker: str, tag: str) -> Container:
        return CgroupContainer(self, naming.worker_name(worker), tag, is_worker=True)

    def server(self, worker: str, tag: str, server: str, generation: int) -> Container:
        name = naming.server_name(worker, server, generation)
        return CgroupContainer(self, name, server_tag(tag, server, generation), is_worker=False)

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

    def glance(self, container: Container, root: int) -> tuple[int, int]:
        pids = container.members()
        return memory_of(pids, proportional=False), len(pids)

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


def take(instance: str, worker: str, tag: str) -> CgroupContainer | None:
    """The container of a worker that a dead keeper made, wherever that one was started; None if there is none."""
    try:
        bases = cgroupfs.find_named([naming.instance_name(instance)])
    except Unsupported:
        return None
    name = naming.worker_name(worker)
    for base in bases:
        if os.path.isdir(f"{base}/{name}"):
            return CgroupContainer(CgroupContainment(instance, base), name, tag, is_worker=True, taken=True)
    return None


def step_out(instance: str) -> None:
    """Move the caller out of the instance's place, if it is in there. Raises `ContainmentError`."""
    try:
        here = cgroupfs.directory_of()
    except Unsupported:
        return
    head, found, _ = (here + "/").partition(f"/{naming.instance_name(instance)}/")
    if found:
        cgroupfs.enter(head)


def probe(instance: str) -> CgroupContainment:
    """Prove all that is needed by doing it with a short-lived child. Raises `Unsupported` with the reason."""
    base = base_of(instance)
    place = f"{base}/probe-{os.getpid()}"
    try:
        _make(place)
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


def _make(place: str) -> None:
    """With all above it, which another keeper of the instance may be removing: it leaves, or has only probed."""
    for chance in reversed(range(_MAKE_TRIES)):
        try:
            return os.makedirs(place, exist_ok=True)
        except FileNotFoundError:
            if not chance:
                raise


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
            child.wait(_PROBE_SECONDS)
            if child.returncode != -signal.SIGKILL:
                raise Unsupported(f"cgroup.kill did not kill: the child ended with {child.returncode}")
            if cgroupfs.cpu_seconds(place) is None:
                raise Unsupported(f"{place}/cpu.stat has no usage_usec")
            if not cgroupfs.remove(place):
                raise Unsupported(f"{place} cannot be removed although its only process is dead")
        except OSError as problem:
            raise Unsupported(f"cannot move a child into {place}: {problem.strerror}") from problem
        except subprocess.TimeoutExpired as problem:
            raise Unsupported(f"cgroup.kill did not kill within {_PROBE_SECONDS:g} s") from problem
        finally:
            child.kill()
