"""The cgroup v2 file system: where it is mounted, where a process sits in it, and the few files that are used."""

from __future__ import annotations

import errno
import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .errors import ContainmentError, Unsupported


class Mount(NamedTuple):
    """``root`` is the part of the hierarchy that is visible at ``point`` (not "/" in a container's bind mount)."""

    point: str
    root: str


def parse_mounts(mountinfo: str, controller: str = "") -> list[Mount]:
    """The cgroup v2 mounts in the text of /proc/self/mountinfo, in its order; or those of v1 with a controller."""
    mounts = []
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        kind, _, options = tail.partition(" ")
        has_it = kind == "cgroup" and controller in options.rpartition(" ")[2].split(",")
        if has_it if controller else kind == "cgroup2":
            fields = head.split(" ")
            mounts.append(Mount(_unescape(fields[4]), _unescape(fields[3])))
    return mounts


def _unescape(field: str) -> str:
    # Space, tab, newline and backslash are written as three octal digits.
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def parse_own_path(cgroup: str, controller: str = "") -> str:
    """The v2 path in the text of /proc/PID/cgroup, "" if the process is in no v2 hierarchy; or that of a v1 one."""
    for line in cgroup.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(",") if controller else number == "0" and not controllers:
            return path.removesuffix(" (deleted)")
    return ""


def directory(mount: Mount, path: str) -> str:
    """Where a process's v2 path is in the file system. Raises `Unsupported` if it lies outside of what is mounted."""
    if path.startswith("/.."):
        raise Unsupported(f"own cgroup {path} lies outside of this cgroup namespace")
    inside = path
    if mount.root != "/":
        if path != mount.root and not path.startswith(mount.root + "/"):
            raise Unsupported(f"own cgroup {path} is not visible at {mount.point}, which shows {mount.root}")
        inside = path[len(mount.root) :]
    return posixpath.normpath(mount.point + "/" + inside.lstrip("/"))


def mounts() -> list[Mount]:
    """Raises `Unsupported` if no cgroup v2 is mounted, or /proc is not."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            found = parse_mounts(file.read())
    except OSError as problem:
        raise Unsupported(f"cannot read /proc/self/mountinfo: {problem.strerror}") from problem
    if not found:
        raise Unsupported("no cgroup v2 file system is mounted")
    return found


def directory_of(pid: int | str = "self") -> str:
    """The directory of the cgroup that ``pid`` is in. Raises `Unsupported`."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            path = parse_own_path(file.read())
    except OSError as problem:
        raise Unsupported(f"cannot read /proc/{pid}/cgroup: {problem.strerror}") from problem
    if not path:
        raise Unsupported(f"process {pid} is in no cgroup v2")
    refusals = []
    for mount in mounts():
        try:
            return directory(mount, path)
        except Unsupported as refusal:
            refusals.append(str(refusal))
    raise Unsupported("; ".join(refusals))


def read_text(path: str) -> str:
    """The text of a small kernel file; "" if it is not there (any more)."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError as problem:
        # ENODEV: the directory was removed between the open and the read.
        if problem.errno in (errno.ENOENT, errno.ENODEV):
            return ""
        raise


def write_text(path: str, text: str) -> None:
    # Without O_CREAT: a kernel file that is missing must be an error.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def enter(path: str) -> None:
    """Move the calling process into the cgroup at ``path``. Raises `ContainmentError`."""
    try:
        write_text(path + "/cgroup.procs", "0")
    except OSError as problem:
        raise ContainmentError(f"cannot enter cgroup {path}: {problem.strerror}") from problem


def tree(path: str) -> Iterator[str]:
    """The cgroup and all below it, children first; nothing if it is not there."""
    for folder, _, _ in os.walk(path, topdown=False):
        yield folder


def members(path: str) -> list[int]:
    """Pids in the cgroup and below, zombies not counted by the kernel."""
    return [int(pid) for folder in tree(path) for pid in read_text(folder + "/cgroup.procs").split()]


def cpu_seconds(path: str) -> float | None:
    """CPU time of the cgroup and below since it was made, its dead included; None if it is not there."""
    for line in read_text(path + "/cpu.stat").splitlines():
        if line.startswith("usage_usec "):
            return int(line[11:]) / 1e6
    return None


def is_populated(path: str) -> bool:
    """Whether a process runs in the cgroup or below. False is no proof of the end: see `remove`."""
    return "populated 1" in read_text(path + "/cgroup.events")


def kill(path: str) -> None:
    """SIGKILL to everything in the cgroup and below, atomically against forks; nothing if it is not there."""
    try:
        write_text(path + "/cgroup.kill", "1")
    except OSError as problem:
        if problem.errno not in (errno.ENOENT, errno.ENODEV):
            raise ContainmentError(f"cannot kill cgroup {path}: {problem.strerror}") from problem


def remove(path: str) -> bool:
    """Remove the cgroup and all below it, children first; False as long as something in it runs.

    This is the proof of the end: "populated 0" is none, since a process that was forked for the cgroup may still join
    it, and once the directory is gone that join fails with ENOENT. An unreaped zombie inside does not hinder it.
    """
    for folder in tree(path):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError as problem:
            if problem.errno in (errno.EBUSY, errno.ENOTEMPTY):
                return False
            raise ContainmentError(f"cannot remove cgroup {folder}: {problem.strerror}") from problem
    return True


def find_named(names: Iterable[str]) -> list[str]:
    """Every cgroup directory of one of these names in what is mounted of v2, whoever made it."""
    return named_below(mounts(), names)


def named_below(mounts: Iterable[Mount], names: Iterable[str]) -> list[str]:
    """The same in these mounts."""
    wanted = frozenset(names)
    found: dict[tuple[int, int], str] = {}
    for mount in mounts:
        for folder, children, _ in os.walk(mount.point):
            for child in wanted.intersection(children):
                path = f"{folder}/{child}"
                try:
                    status = os.stat(path)
                except FileNotFoundError:
                    continue  # its keeper has removed it since the listing
                # The same hierarchy may be mounted in several places.
                found.setdefault((status.st_dev, status.st_ino), path)
    return list(found.values())
