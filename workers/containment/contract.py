"""What a containment promises, whatever the operating system.

Three processes use it. The keeper makes a container for each worker, puts the forked child in, and empties it. The
worker does the same for each MCP server below it. The supervisor only looks (figures) and sweeps at its start.

Emptying is a loop of short, non-blocking rounds so that a single-threaded keeper can serve it from its poll loop:
``while not container.kill_round(): wait a little``. A container is *over* when nothing of it runs and nothing of it is
left in the file system; only then does ``kill_round`` return True.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

LEAVE_LOOKS = 20
"""Looks at what was killed and does not die before a keeper that leaves gives it up, however long they have taken: of
the time that the machine itself stood still a process had nothing to die in."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Figures of one container from the kernel. ``exact``: the dead are counted by the kernel itself (cgroup)."""

    cpu_seconds: float
    memory_bytes: int  # PSS where the kernel gives it, else RSS
    processes: int
    pids: tuple[int, ...] = ()
    exact: bool = False
    proportional: bool = False  # memory was asked for as PSS; else it is RSS, which counts shared pages many times


@dataclass(frozen=True, slots=True)
class Entry:
    """How the exec shim gets a new program into a container, as plain data: it travels to the shim as JSON."""

    cgroup: str = ""  # directory whose cgroup.procs the shim writes itself into
    new_session: bool = True
    parent_death_signal: int = 0
    subreaper: bool = False
    tag: str = ""  # HERMESD_TAG of the program


class Container(Protocol):
    """One worker, or one MCP server of a worker, with everything it ever starts."""

    name: str  # "w-w12" or "w-w12/mcp-time-1": also the directory below the instance's cgroup
    tag: str
    place: str  # the directory of a cgroup, else ""

    def create(self) -> None:
        """Make it, before any process of it exists. Raises `hermesd.workers.containment.errors.ContainmentError`."""

    def started(self, pid: int) -> None:
        """Called by the parent right after a fork or a spawn, while it has not yet reaped ``pid``."""

    def fork(self) -> int:
        """As ``os.fork``, from a process with one thread; the child is inside already where that is possible."""

    def enter(self) -> None:
        """Called by a forked child as its first act: it takes the tag, leads a session and is in the container."""

    def entry(self) -> Entry:
        """What a shim must do to start a program inside."""

    def kill_round(self, roots: Iterable[int] = ()) -> bool:
        """Kill what is inside now and say whether the container is over. Never blocks, never waits.

        ``roots``: pidfds of processes that were started for it and may not have entered yet; each is signalled too and
        must be dead before the container is over. Only what carries the tag, sits in the cgroup or descends from
        either is ever signalled, and by pidfd. A worker may empty its own container when its keeper is dead: with a
        cgroup it dies in that, otherwise it is spared and ends itself afterwards.
        """

    def members(self) -> tuple[int, ...]:
        """Pids of what runs inside now."""

    def cpu_seconds(self) -> float:
        """CPU time of the container, its dead included as far as ``exact_cpu`` says; still known after its end."""


class Containment(Protocol):
    """One way to contain processes; chosen once by `hermesd.workers.containment.choose`."""

    name: str
    instance: str
    exact_cpu: bool

    def prepare(self) -> None:
        """Called by the keeper before its first fork: makes the instance's place and moves the caller into its leaf."""

    def leave(self) -> None:
        """Called by the keeper as its last act: kills what is left of its own, moves out, removes the instance's place.

        Another keeper of the instance may live beside it: what that one made or started is not touched, and the
        instance's place is removed by the last. Raises `hermesd.workers.containment.errors.LeftAlive` if that cannot be
        done.
        """

    def register(self, pid: int) -> None:
        """Called by the keeper for each child of its own, before the next ``kill_round`` or ``leave``.

        A child of the keeper that was not registered is an orphan of a dead worker and is killed with it.
        """

    def unregister(self, pid: int) -> None:
        """Called by the keeper when it has reaped a registered child."""

    def worker(self, worker: str, tag: str) -> Container:
        """The container of a worker, by its id."""

    def server(self, worker: str, tag: str, server: str, generation: int) -> Container:
        """The container of an MCP server, below its worker's. ``tag`` is the worker's, from which its own follows."""

    def usage(
        self, containers: Mapping[str, Container], roots: Mapping[str, int], *, memory: bool = False
    ) -> dict[str, Usage]:
        """Figures of many containers at once (one scan of /proc for all where there is no cgroup).

        ``roots`` gives the pid of each container's first process, where it is known. ``memory``: PSS instead of RSS,
        for 0.4 ms a process.
        """

    def glance(self, container: Container, root: int) -> tuple[int, int]:
        """RSS in bytes and number of processes of one container, as cheaply as may be: for a look several times a
        second. Without a cgroup only what descends from ``root``, its first process.
        """

    def reap_adopted(self) -> list[int]:
        """Called by a worker about once a second: reaps the dead that it adopted, never a child that it started itself.

        Returns their pids. It is also how a container learns of descendants that will lose their parent.
        """

    def find(self, spare: Iterable[int] = ()) -> list[Leftover]:
        """What an earlier life of this instance left, untouched. ``spare`` as in `sweep`."""

    def sweep(self, spare: Iterable[int] = ()) -> list[Leftover]:
        """One round of killing what an earlier life of this instance left; empty list = clean.

        Never touches the caller, nor ``spare`` and what is below it.
        """


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that an earlier life left and that was proved ours by tag or cgroup."""

    pid: int
    start_ticks: int
    command: str
    proof: str  # "tag" | "cgroup" | "descent" from either
    age: float = 0.0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """The containment in use and why each better one is not."""

    containment: Containment
    refused: tuple[tuple[str, str], ...] = field(default=())  # (name, reason), strongest first
