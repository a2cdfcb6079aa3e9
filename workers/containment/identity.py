"""Which process is meant: a pid is reused, a pid with its kernel start time is not, a pidfd never can be."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import NamedTuple


class Identity(NamedTuple):
    """One process for ever. ``start_ticks``: clock ticks after boot, field 22 of /proc/PID/stat."""

    pid: int
    start_ticks: int


def stat_fields(pid: int | str) -> list[bytes] | None:
    """The fields of /proc/PID/stat from ``state`` (field 3) on, so field N is at [N - 3]; None if there is no such pid.

    The command name before them may hold spaces and brackets, so parsing starts after the last ")".
    """
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            line = os.read(descriptor, 4096)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return line[line.rindex(b")") + 2 :].split()


def start_ticks(pid: int) -> int | None:
    """When the kernel started ``pid``, in clock ticks after boot; None if there is no such process."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields else None


def identify(pid: int) -> Identity | None:
    ticks = start_ticks(pid)
    return None if ticks is None else Identity(pid, ticks)


def open_pidfd(identity: Identity) -> int | None:
    """A pidfd (close-on-exec) that is proved to be ``identity``; None if it is gone or its number means another now.

    The pidfd is opened before the start time is compared: what is compared is then what will be signalled.
    """
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    except OSError as problem:
        # EINVAL: the number is that of a thread by now.
        if problem.errno == 22:
            return None
        raise
    if start_ticks(identity.pid) == identity.start_ticks:
        return descriptor
    os.close(descriptor)
    return None


def send(pidfd: int, number: int) -> bool:
    """Signal by pidfd; False if it is dead or this user may not signal it."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def signal_process(identity: Identity, *numbers: int) -> bool:
    """Send the signals to exactly that process; False if it is gone or may not be signalled."""
    descriptor = open_pidfd(identity)
    if descriptor is None:
        return False
    try:
        results = [send(descriptor, number) for number in numbers]
        return all(results)
    finally:
        os.close(descriptor)


def is_dead(pidfd: int) -> bool:
    """Whether the process behind a pidfd has ended, all its threads included; also true while it is a zombie."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(0))


def wait_dead(pidfd: int, seconds: float) -> bool:
    """Block until the process has ended, at most ``seconds``."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(max(0, int(seconds * 1000))))


def pid_of(pidfd: int) -> int | None:
    """The pid behind a pidfd; None once it was reaped (-1 to the kernel) and in another pid namespace (0)."""
    with contextlib.suppress(FileNotFoundError), open(f"/proc/self/fdinfo/{pidfd}", "rb") as info:
        for line in info:
            if line.startswith(b"Pid:"):
                pid = int(line[4:])
                return pid if pid > 0 else None
    return None
