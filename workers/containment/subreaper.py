"""Containment without cgroups: every worker adopts its orphans, so that descent tells who belongs to whom.

A worker kills a server by scans of /proc: stop what is found until a scan finds nothing new, kill it, and look again
until two scans in a row find nothing. The keeper, to whom the orphans of a dead worker come, kills the worker first and
then whatever arrives. Both are best effort where cgroup.kill is a guarantee: processes that fork faster than they can
be found may keep it busy for a while, but they are not given up.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping

from . import naming, prctl, procfs, sweep
from .contract import LEAVE_LOOKS, Container, Entry, Leftover, Usage
from .errors import LeftAlive, Unsupported
from .identity import Identity, identify, is_dead, pid_of, send, signal_process
from .procfs import TICK, Process, Snapshot, own_children
from .tag import VARIABLE, check_instance, plant, server_tag, worker_prefix
from .usage import cpu_seconds, memory_of

_FREEZE_ROUNDS = 3
_CHASE_SECONDS = 0.005
_LEAVE_SECONDS = 2.0


class SubreaperContainer:
    """What carries the tag, was started as a root, was seen below one, or descends from any of these."""

    place = ""

    def __init__(self, containment: SubreaperContainment, name: str, tag: str, *, is_worker: bool):
        self.name = name
        self.tag = tag
        self._containment = containment
        self._is_worker = is_worker
        self._mark = worker_prefix(tag) if is_worker else tag
        self._roots: set[Identity] = set()
        self._known: set[Identity] = set()
        self._stopped: set[Identity] = set()
        self._seen: set[Identity] = set()
        self._freezes = 0
        self._empty_rounds = 0
        self._killed_ticks: dict[Identity, int] = {}
        self._cpu_seconds = 0.0

    def create(self) -> None:
        self._containment.opened(self)

    def started(self, pid: int) -> None:
        identity = identify(pid)
        if identity is not None:
            self._roots.add(identity)
            self._known.add(identity)

    def taken(self, root: Identity) -> None:
        """Called by the keeper that takes the worker over: like `started`, for a process that is no child."""
        self._roots.add(root)
        self._known.add(root)

    def fork(self) -> int:
        return os.fork()

    def enter(self) -> None:
        plant(self.tag)
        with contextlib.suppress(PermissionError):  # it leads a session already
            os.setsid()
        prctl.set_child_subreaper()
        self._containment.entered()

    def entry(self) -> Entry:
        # A server adopts its orphans too: as long as it lives they stay below it, even without a tag.
        death_signal = 0 if self._is_worker else int(signal.SIGKILL)
        return Entry(new_session=True, parent_death_signal=death_signal, subreaper=True, tag=self.tag)

    def kill_round(self, roots: Iterable[int] = ()) -> bool:
        roots = tuple(roots)
        alive = [pidfd for pidfd in roots if not is_dead(pidfd)]
        for pid in filter(None, map(pid_of, roots)):
            self.started(pid)
        if self._containment.is_keeper():
            # Whatever loses its parent now comes to this process: nothing has to be found before it is orphaned.
            for pidfd in alive:
                send(pidfd, signal.SIGKILL)
            if self._containment.chase_strays() and self._seen:
                self._empty_rounds = 0
                return False
        inside = self.inside(Snapshot.take(), strays=True)
        self._remember_cpu(inside)
        running = [process for process in inside if process.runs]
        # The new dead count as life: a scan that is overtaken by a process that forks and exits finds its corpse alone.
        active = running or any(process.identity not in self._seen for process in inside)
        self._seen.update(process.identity for process in inside)
        if not active and not alive:
            self._empty_rounds += 1
            if self._empty_rounds < 2:
                return False
            self._containment.closed(self)
            return True
        self._empty_rounds = 0
        fresh = [process for process in running if process.identity not in self._stopped]
        for process in fresh:
            signal_process(process.identity, signal.SIGSTOP)
            self._stopped.add(process.identity)
        if fresh and self._freezes < _FREEZE_ROUNDS and not self._containment.is_keeper():
            self._freezes += 1
            return False
        for process in running:
            signal_process(process.identity, signal.SIGKILL)
        for pidfd in alive:
            send(pidfd, signal.SIGKILL)
        return False

    def members(self) -> tuple[int, ...]:
        return tuple(process.pid for process in self.inside(Snapshot.take()) if process.runs)

    def cpu_seconds(self) -> float:
        return self._cpu_seconds

    def inside(self, snapshot: Snapshot, *, strays: bool = False) -> list[Process]:
        """Who belongs, parents first, zombies too; ``strays``: with the keeper's orphans of dead workers."""
        spared = self._containment.spared(snapshot) - {identity.pid for identity in self._known}

        def is_spared(process: Process) -> bool:
            return process.pid in spared

        seeds = [identity.pid for identity in self._known if snapshot.get(identity) is not None]
        if strays:
            seeds += self._containment.strays(snapshot)
            if self._is_worker and os.environ.get(VARIABLE, "").startswith(self._mark):
                # The worker empties its own container: it is spared, what is below it is not.
                seeds += [child.pid for child in snapshot.children(os.getpid())]
        found = snapshot.below(seeds, stop=is_spared)
        if not self._adopts(snapshot):
            tagged = [p.pid for p in snapshot if p.pid not in found and snapshot.tag(p).startswith(self._mark)]
            found |= snapshot.below(tagged, stop=is_spared)
        self._known = {process.identity for process in found.values()}
        return list(found.values())

    def owns_adopted(self, process: Process) -> bool:
        """Whether a child of the caller is proved to be an orphan from in here and not what the caller started."""
        if not self._roots or process.identity in self._roots:
            return False  # before `started`, what carries the tag may be the shim of a spawn under way
        return process.identity in self._known or process.session in {root.pid for root in self._roots}

    def figures(self, inside: list[Process], *, memory: bool) -> Usage:
        pids = tuple(process.pid for process in inside if process.runs)
        # Never less than before: a process may be reaped between the reading of its parent and of itself.
        self._cpu_seconds = max(self._cpu_seconds, cpu_seconds(inside))
        return Usage(
            cpu_seconds=self._cpu_seconds,
            memory_bytes=memory_of(pids, proportional=memory),
            processes=len(pids),
            pids=pids,
            proportional=memory,
        )

    def _adopts(self, snapshot: Snapshot) -> bool:
        """A living worker keeps every orphan below itself, so that descent misses nothing."""
        found = (snapshot.get(root) for root in self._roots)
        return self._is_worker and any(process is not None and process.runs for process in found)

    def _remember_cpu(self, inside: Iterable[Process]) -> None:
        for process in inside:
            self._killed_ticks[process.identity] = max(self._killed_ticks.get(process.identity, 0), process.cpu)
        self._cpu_seconds = max(self._cpu_seconds, sum(self._killed_ticks.values()) * TICK)


class SubreaperContainment:
    """The same object serves the keeper, which has called `prepare`, and the worker that was forked from it."""

    name = "subreaper"
    exact_cpu = False

    def __init__(self, instance: str):
        self.instance = check_instance(instance)
        self._keeper = 0  # pid of the process that called prepare; a fork of it is no keeper
        self._registered: set[Identity] = set()
        self._open: list[SubreaperContainer] = []
        self._seen_below: set[Identity] = set()  # descendants that had another parent than the caller

    def prepare(self) -> None:
        prctl.set_child_subreaper()
        self._keeper = os.getpid()

    def leave(self) -> None:
        deadline = time.monotonic() + _LEAVE_SECONDS
        self._registered.clear()
        empty = looks = 0
        seen: set[Identity] = set()
        while empty < 2:
            snapshot = Snapshot.take()
            below = snapshot.below(self.strays(snapshot)).values()
            running = [process for process in below if process.runs]
            empty = 0 if any(process.identity not in seen for process in below) or running else empty + 1
            seen.update(process.identity for process in below)
            for process in running:
                signal_process(process.identity, signal.SIGSTOP, signal.SIGKILL)
            if running:
                looks += 1
                if time.monotonic() > deadline and looks > LEAVE_LOOKS:
                    pids = tuple(process.pid for process in running)
                    raise LeftAlive(f"cannot leave: processes {pids} below the keeper do not die", pids)
                self.chase_strays()
                time.sleep(0.001)
        prctl.set_child_subreaper(False)
        self._keeper = 0

    def register(self, pid: int) -> None:
        identity = identify(pid)
        if identity is not None:
            self._registered.add(identity)

    def unregister(self, pid: int) -> None:
        self._registered = {identity for identity in self._registered if identity.pid != pid}

    def worker(self, worker: str, tag: str) -> Container:
        return SubreaperContainer(self, naming.worker_name(worker), tag, is_worker=True)

    def server(self, worker: str, tag: str, server: str, generation: int) -> Container:
        name = naming.server_name(worker, server, generation)
        return SubreaperContainer(self, name, server_tag(tag, server, generation), is_worker=False)

    def usage(
        self, containers: Mapping[str, Container], roots: Mapping[str, int], *, memory: bool = False
    ) -> dict[str, Usage]:
        snapshot = Snapshot.take()
        figures = {}
        for key, container in containers.items():
            if not isinstance(container, SubreaperContainer):
                raise TypeError(f"cannot measure {container.name}: it was made by another containment")
            if key in roots and roots[key] in snapshot.processes:
                container.started(roots[key])
            figures[key] = container.figures(container.inside(snapshot), memory=memory)
        return figures

    def glance(self, container: Container, root: int) -> tuple[int, int]:
        # A worker adopts what loses its parent, so that all of it is below.
        pids = procfs.family(root)
        return memory_of(pids, proportional=False), len(pids)

    def reap_adopted(self) -> list[int]:
        snapshot = Snapshot.take()
        for container in self._open:
            container.inside(snapshot)
        me = os.getpid()
        below = snapshot.below([me])
        below.pop(me, None)
        reaped = []
        for process in below.values():
            if process.parent != me:
                self._seen_below.add(process.identity)
            elif not process.runs and self._is_adopted(process) and _reap(process.pid):
                reaped.append(process.pid)
        self._seen_below &= {process.identity for process in below.values() if process.pid not in reaped}
        return reaped

    def find(self, spare: Iterable[int] = ()) -> list[Leftover]:
        return sweep.find(self.instance, spare)

    def sweep(self, spare: Iterable[int] = ()) -> list[Leftover]:
        return sweep.sweep_round(self.instance, spare)

    def opened(self, container: SubreaperContainer) -> None:
        self._open.append(container)

    def closed(self, container: SubreaperContainer) -> None:
        self._open = [other for other in self._open if other is not container]

    def entered(self) -> None:
        """The caller is a fork of the keeper and a worker now: what the keeper knew is not its business."""
        self._keeper = 0
        self._registered.clear()
        self._open.clear()

    def spared(self, snapshot: Snapshot) -> set[int]:
        """The caller with all above it, and the keeper's registered children."""
        return snapshot.ancestors(os.getpid()) | {identity.pid for identity in self._registered}

    def strays(self, snapshot: Snapshot) -> list[int]:
        """The keeper's children that it did not start.

        A living worker keeps its orphans, so the parent of these is a dead one; they are ours whatever they did to
        their environment, their session or their group.
        """
        if not self.is_keeper():
            return []
        return [child.pid for child in snapshot.children(self._keeper) if child.identity not in self._registered]

    def is_keeper(self) -> bool:
        return self._keeper == os.getpid()

    def chase_strays(self) -> bool:
        """Kill the keeper's orphans as they arrive, for some milliseconds; whether there were living ones.

        Reading the list of one's own children costs a fiftieth of a scan, which matters against processes that fork
        and exit without pause. A child that was not reaped cannot lose its number, so none is identified again.
        """
        if not self.is_keeper():
            return False
        caught = False
        done = {identity.pid for identity in self._registered}
        deadline = time.monotonic() + _CHASE_SECONDS
        while time.monotonic() < deadline:
            fresh = [pid for pid in own_children() if pid not in done]
            if not fresh:
                break
            for pid in fresh:
                done.add(pid)
                pidfd = os.pidfd_open(pid)
                if not is_dead(pidfd):
                    caught = True
                    send(pidfd, signal.SIGKILL)
                os.close(pidfd)
        return caught

    def _is_adopted(self, process: Process) -> bool:
        return process.identity in self._seen_below or any(box.owns_adopted(process) for box in self._open)


def take(instance: str, worker: str, tag: str, root: Identity) -> SubreaperContainer:
    """The container of a worker that a dead keeper made.

    In a containment without a keeper: its orphans do not come to the caller, so that they have to be found first.
    """
    container = SubreaperContainer(SubreaperContainment(instance), naming.worker_name(worker), tag, is_worker=True)
    container.taken(root)
    return container


def _reap(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None
    except ChildProcessError:
        return False


def probe(instance: str) -> SubreaperContainment:
    """Raises `Unsupported` with the reason."""
    if not hasattr(os, "pidfd_open"):
        raise Unsupported("this Python has no os.pidfd_open")
    try:
        os.close(os.pidfd_open(os.getpid()))
        was_on = prctl.is_child_subreaper()
        prctl.set_child_subreaper(True)
        prctl.set_child_subreaper(was_on)
    except OSError as problem:
        raise Unsupported(f"the kernel refuses pidfd or PR_SET_CHILD_SUBREAPER: {problem.strerror}") from problem
    if identify(os.getpid()) is None:
        raise Unsupported("/proc is not mounted")
    return SubreaperContainment(instance)
