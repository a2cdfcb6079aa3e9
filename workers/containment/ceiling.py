"""Ceilings that the kernel keeps for a worker and all below it: bytes of memory, and tasks.

Three ways, looked for once by each keeper, and for memory and tasks apart: the controllers of cgroup v2, where they are
delegated to the place that the worker's container lies in; a hierarchy of cgroup v1 in which this process may make
directories (on hybrid systems the controllers are there); else nobody does, and hermesd looks itself.

    <v1 hierarchy>/<where the keeper was started>/hermesd-<instance>/w-<worker>/

A worker that has come to its memory ceiling is dead as a whole: v2 kills the group (``memory.oom.group``), v1 kills one
process and wakes who listens (``cgroup.event_control``), and that is the keeper, which kills the rest.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field

from . import cgroupfs, naming
from .cgroupfs import Mount
from .errors import ContainmentError, Unsupported

V1, V2, NOBODY = "cgroup v1", "cgroup v2", ""

_CONTROLLERS = ("memory", "pids")
_LIMIT_FILE = {"memory": "memory.limit_in_bytes", "pids": "pids.max"}
_PROBE = {"memory": 64 << 20, "pids": 1000}
_MAKE_TRIES = 5


@dataclass(frozen=True, slots=True)
class Ceiling:
    """0 = none. ``tasks``: processes and their threads, for the kernel's controller counts both."""

    memory_bytes: int = 0
    tasks: int = 0


@dataclass(slots=True)
class Hold:
    """The ceilings of one worker. ``alarm``: a descriptor that is readable once it has run out of memory, or -1."""

    places: list[str] = field(default_factory=list)  # directories of v1 that its processes have to enter
    memory_events: str = ""  # the file in which the kernel counts what it killed
    alarm: int = -1

    def enter(self) -> None:
        """Called by the forked child before it has children of its own. Raises `ContainmentError`."""
        for place in self.places:
            cgroupfs.enter(place)

    def ran_out(self) -> bool:
        """Whether the kernel has killed a process of it for want of memory; it is not known after `release`."""
        try:
            told = cgroupfs.read_text(self.memory_events) if self.memory_events else ""
        except OSError:
            return False
        return any(line.startswith("oom_kill ") and int(line[9:]) > 0 for line in told.splitlines())

    def release(self) -> None:
        """Let go of it, when nothing of the worker runs any more. Raises `ContainmentError`."""
        if self.alarm >= 0:
            os.close(self.alarm)
            self.alarm = -1
        for place in self.places:
            if not cgroupfs.remove(place):
                raise ContainmentError(f"cannot remove {place}: processes {cgroupfs.members(place)} are in it still")
        self.places.clear()


class Ceilings:
    """The ways that are open to this process. ``memory`` and ``tasks`` say which: `V1`, `V2`, or `NOBODY`."""

    def __init__(self, instance: str, container_base: str = ""):
        """``container_base``: the directory of the instance's containers in cgroup v2, "" where they are none."""
        self._instance = instance
        self._bases: dict[str, str] = {}  # of v1, by controller
        self._v2: set[str] = set()
        for controller in _CONTROLLERS:
            if container_base and _delegated(container_base, controller):
                self._v2.add(controller)
            elif base := _own_place(controller, instance):
                self._bases[controller] = base

    def _way(self, controller: str) -> str:
        return V2 if controller in self._v2 else V1 if controller in self._bases else NOBODY

    @property
    def memory(self) -> str:
        return self._way("memory")

    @property
    def tasks(self) -> str:
        return self._way("pids")

    def hold(self, worker: str, ceiling: Ceiling, container: str = "") -> Hold:
        """Set the ceilings of a worker that has no process yet. ``container``: its directory in v2. Raises
        `ContainmentError`.
        """
        held = Hold()
        for controller, value in (("memory", ceiling.memory_bytes), ("pids", ceiling.tasks)):
            if not value:
                continue
            try:
                if controller in self._v2:
                    self._hold_v2(held, controller, value, container)
                elif controller in self._bases:
                    place = f"{self._bases[controller]}/{naming.worker_name(worker)}"
                    _make(place)
                    held.places.append(place)
                    cgroupfs.write_text(f"{place}/{_LIMIT_FILE[controller]}", str(value))
                    if controller == "memory":
                        _listen(held, place)
            except OSError as problem:
                with contextlib.suppress(ContainmentError):
                    held.release()
                raise ContainmentError(f"cannot limit {controller} of {worker}: {problem}") from problem
        return held

    @staticmethod
    def _hold_v2(held: Hold, controller: str, value: int, container: str) -> None:
        if controller == "pids":
            cgroupfs.write_text(f"{container}/pids.max", str(value))
            return
        cgroupfs.write_text(f"{container}/memory.max", str(value))
        cgroupfs.write_text(f"{container}/memory.oom.group", "1")
        held.memory_events = f"{container}/memory.events"

    def find(self, worker: str) -> Hold:
        """The ceilings of a worker whose keeper is dead, by the means that it was made with."""
        held = Hold()
        name = naming.worker_name(worker)
        for controller in _CONTROLLERS:
            for place in _found(controller, self._instance):
                if os.path.isdir(worker_place := f"{place}/{name}"):
                    held.places.append(worker_place)
                    if controller == "memory":
                        with contextlib.suppress(OSError):
                            _listen(held, worker_place)
        return held

    def leave(self) -> None:
        """Called by the keeper as its last act: the instance's places go with the last worker."""
        for base in self._bases.values():
            with contextlib.suppress(OSError):  # another keeper of the instance has workers there
                os.rmdir(base)


def ways(instance: str, container_base: str = "") -> tuple[str, str]:
    """How memory and tasks would be limited by a keeper started from here, for ``doctor``. Leaves nothing."""
    found = Ceilings(instance, container_base)
    return found.memory, found.tasks


def sweep(instance: str) -> None:
    """Remove what an earlier life of the instance left in hierarchies of v1 and is empty."""
    for controller in _CONTROLLERS:
        for place in _found(controller, instance):
            for folder in cgroupfs.tree(place):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)


def _found(controller: str, instance: str) -> list[str]:
    return cgroupfs.named_below(_mounts(controller), [naming.instance_name(instance)])


def _mounts(controller: str) -> list[Mount]:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return cgroupfs.parse_mounts(file.read(), controller)
    except OSError:
        return []


def _own_place(controller: str, instance: str) -> str:
    """Where the instance's directory of a v1 hierarchy is to be made, proved by making one; "" if that is nowhere."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            path = cgroupfs.parse_own_path(file.read(), controller)
    except OSError:
        return ""
    name = naming.instance_name(instance)
    for mount in _mounts(controller):
        try:
            here = cgroupfs.directory(mount, path).rstrip("/")
        except Unsupported:
            continue
        head, found, _ = (here + "/").partition(f"/{name}/")
        base = f"{head}/{name}" if found else f"{here}/{name}"
        probe = f"{base}/probe-{os.getpid()}"
        try:
            _make(probe)
            cgroupfs.write_text(f"{probe}/{_LIMIT_FILE[controller]}", str(_PROBE[controller]))
            if controller == "memory" and not os.path.exists(f"{probe}/memory.oom_control"):
                continue
            return base
        except OSError:
            continue
        finally:
            for folder in (probe, base):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
    return ""


def _delegated(base: str, controller: str) -> bool:
    """Whether the containers below ``base`` have this controller of v2; switches it on for them if that is possible.

    It is where hermesd was not started in the very directory that ``base`` is made in: a directory of v2 holds
    processes or hands controllers down, never both.
    """
    try:
        os.makedirs(base, exist_ok=True)
        if controller not in cgroupfs.read_text(f"{base}/cgroup.controllers").split():
            return False
        cgroupfs.write_text(f"{base}/cgroup.subtree_control", f"+{controller}")
        return True
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):  # a keeper is in it already
            os.rmdir(base)


def _make(place: str) -> None:
    for chance in reversed(range(_MAKE_TRIES)):
        try:
            os.makedirs(place)
            return
        except FileExistsError:
            return
        except FileNotFoundError:
            # Another keeper of the instance has left just now, and has removed the directory above it.
            if not chance:
                raise


def _listen(held: Hold, place: str) -> None:
    """Have the kernel wake an eventfd when a v1 memory cgroup is full and something in it has to die."""
    held.memory_events = f"{place}/memory.oom_control"
    alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        watched = os.open(held.memory_events, os.O_RDONLY | os.O_CLOEXEC)
        try:
            cgroupfs.write_text(f"{place}/cgroup.event_control", f"{alarm} {watched}")
        finally:
            os.close(watched)
    except OSError:
        os.close(alarm)
        raise
    held.alarm = alarm
