"""Which processes are there, each named so that a later one of the same pid is not taken for it."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hermesd.workers.containment.tag import worker_prefix

from .figures import StopWatch


class Identity(NamedTuple):
    """``ticks``: from boot to its start."""

    pid: int
    ticks: int


def identify(pid: int) -> Identity | None:
    """None: it is gone, or a zombie, which runs no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else Identity(pid, int(fields[19]))


def identities(pids: Iterable[int]) -> set[Identity]:
    return {identity for identity in map(identify, pids) if identity is not None}


def living(known: Iterable[Identity]) -> set[Identity]:
    return {identity for identity in known if identify(identity.pid) == identity}


def tag_of(pid: int) -> str:
    """The value of HERMESD_TAG in a process's environment, "" where there is none."""
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if entry.startswith(b"HERMESD_TAG="):
                return entry.partition(b"=")[2].decode("ascii", "replace")
    return ""


def tagged(prefix: str) -> Iterator[int]:
    """Every process whose tag begins like this: a worker's own and those of its servers do."""
    for entry in Path("/proc").glob("[0-9]*"):
        if tag_of(int(entry.name)).startswith(prefix) and prefix:
            yield int(entry.name)


def grouped(part: str) -> Iterator[int]:
    """Every process in a cgroup whose path holds ``part``."""
    for entry in Path("/proc").glob("[0-9]*/cgroup"):
        with suppress(OSError):
            if part in entry.read_text("ascii", "replace").replace("\n", "/\n"):
                yield int(entry.parent.name)


def wait_ended(pids: Iterable[int], seconds: float) -> None:
    """Until all of these have ended, or the time is over: the kernel tells, and nobody has to look again and again."""
    until = time.monotonic() + seconds
    poller = select.poll()
    running = set()
    try:
        for pid in pids:
            with suppress(ProcessLookupError):
                running.add(descriptor := os.pidfd_open(pid))
                poller.register(descriptor, select.POLLIN)
        while running and (left := until - time.monotonic()) > 0:
            for descriptor, _ in poller.poll(left * 1000):
                poller.unregister(descriptor)
                running.remove(descriptor)
                os.close(descriptor)
    finally:
        for descriptor in running:
            os.close(descriptor)


def kill(pid: int) -> None:
    """``kill -9`` of a process that a test has just looked up."""
    descriptor = os.pidfd_open(pid)
    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    os.close(descriptor)


def command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(bytes(1), b" ").decode(errors="replace").strip()
    except OSError:
        words = "gone"
    return f"{pid} ({words})"


class Family:
    """A worker with all below it: by its tag, its cgroup, and what a test knows of besides (``more``)."""

    def __init__(self, instance: str, worker: str, pid: int, more: Iterable[int] = ()):
        tag = tag_of(pid)
        assert tag.startswith(f"{instance}-"), f"worker {pid} carries no tag of {instance}: {tag!r}"
        # The tags of its servers differ from its own in their second half.
        self._tag = worker_prefix(tag)
        self._group = f"/hermesd-{instance}/w-{worker}/"
        self._more = identities(more)

    def living(self) -> set[Identity]:
        return identities({*tagged(self._tag), *grouped(self._group)}) | living(self._more)

    def wait_gone(self, seconds: float) -> float:
        """Seconds until nobody of it is left; raises with the list when that takes too long."""
        watch = StopWatch()
        while left := self.living():
            if watch.seconds() > seconds:
                raise AssertionError(f"{len(left)} left after {seconds} s: {sorted(command(one.pid) for one in left)}")
            wait_ended([one.pid for one in left], seconds - watch.seconds())
        return watch.seconds()
