"""One scan of /proc for everything that asks about processes: descent, CPU time, memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from .identity import Identity, stat_fields
from .tag import read_tag

TICK = 1.0 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01
PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD in field 9


class Process(NamedTuple):
    """A line of /proc/PID/stat. CPU times in clock ticks."""

    pid: int
    start_ticks: int
    parent: int
    group: int
    session: int
    state: str
    threads: int
    cpu: int  # own and waited-for children's: utime + stime + cutime + cstime; a zombie still shows them
    resident: int  # pages

    @property
    def identity(self) -> Identity:
        return Identity(self.pid, self.start_ticks)

    @property
    def runs(self) -> bool:
        """False for a zombie. A main thread that left before its other threads shows as Z too, but runs."""
        return self.state not in "ZX" or self.threads > 1


def read_process(pid: int) -> Process | None:
    """None for a pid that is gone and for a kernel thread."""
    fields = stat_fields(pid)
    if fields is None or int(fields[6]) & _KERNEL_THREAD:
        return None
    return Process(
        pid=pid,
        start_ticks=int(fields[19]),
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        state=fields[0].decode(),
        threads=int(fields[17]),
        cpu=int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14]),
        resident=int(fields[21]),
    )


class Snapshot:
    """All processes as one scan saw them. The scan is not atomic: what is to be signalled must be identified again."""

    def __init__(self, processes: Iterable[Process]):
        self.processes = {process.pid: process for process in processes}
        self._children: dict[int, list[int]] = {}
        for process in self.processes.values():
            self._children.setdefault(process.parent, []).append(process.pid)
        self._tags: dict[int, str] = {}

    @classmethod
    def take(cls) -> Snapshot:
        return cls(process for name in os.listdir("/proc") if name.isdigit() if (process := read_process(int(name))))

    def __iter__(self) -> Iterator[Process]:
        return iter(self.processes.values())

    def get(self, identity: Identity) -> Process | None:
        process = self.processes.get(identity.pid)
        return process if process is not None and process.start_ticks == identity.start_ticks else None

    def tag(self, process: Process) -> str:
        """The tag in its environment, read at the first question; "" for a zombie, which has none any more."""
        if process.pid not in self._tags:
            self._tags[process.pid] = read_tag(process.pid) if process.runs else ""
        return self._tags[process.pid]

    def children(self, pid: int) -> list[Process]:
        return [self.processes[child] for child in self._children.get(pid, ())]

    def below(
        self, seeds: Iterable[int], stop: Callable[[Process], bool] = lambda process: False
    ) -> dict[int, Process]:
        """The seeds and all their descendants, parents first; ``stop`` cuts a branch off, its root included.

        A child that is older than its parent was read before the parent's number was used again: it is no child.
        """
        found: dict[int, Process] = {}
        queue = [self.processes[pid] for pid in seeds if pid in self.processes]
        for process in queue:
            if process.pid in found or stop(process):
                continue
            found[process.pid] = process
            queue.extend(child for child in self.children(process.pid) if child.start_ticks >= process.start_ticks)
        return found

    def ancestors(self, pid: int) -> set[int]:
        """The pid itself and every process above it."""
        line: set[int] = set()
        while pid in self.processes and pid not in line:
            line.add(pid)
            pid = self.processes[pid].parent
        return line


def own_children() -> list[int]:
    """Pids of the calling thread's children, zombies too, orphans it adopted too; 50 times cheaper than a scan.

    Empty where the kernel was built without CONFIG_PROC_CHILDREN.
    """
    try:
        with open("/proc/thread-self/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


def family(pid: int) -> list[int]:
    """A process and all that descends from it, zombies too, without a scan of all processes; itself alone where the
    kernel was built without CONFIG_PROC_CHILDREN.
    """
    found = [pid]
    for member in found:
        try:
            threads = os.listdir(f"/proc/{member}/task")
        except OSError:
            continue
        for thread in threads:
            with contextlib.suppress(OSError), open(f"/proc/{member}/task/{thread}/children", "rb") as file:
                found.extend(int(child) for child in file.read().split())
    return found


def command_line(pid: int) -> str:
    """The command line for people, at most 200 characters; "" if the process is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""
    return words if len(words) <= 200 else words[:199] + "…"
