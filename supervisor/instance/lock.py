"""The lock: who holds it is the hermesd of its home. Held for life, released by the kernel, never unlinked.

The file's content is the holder's `Record`, written at once, so that a loser can name the winner before the winner has
got as far as its PID file.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import pidfile
from .errors import AlreadyRunning, HomeUnusable
from .paths import Paths
from .pidfile import Record

if sys.platform == "win32":
    from .exclusive_windows import try_exclusive, try_shared
else:
    from .exclusive_posix import try_exclusive, try_shared

_STEP = 0.01
_CONFUSED = 0.5  # seconds; how long a held lock may name no living process before the loser gives up on a name


class Lock:
    """A lock that is held. The app keeps it until the process ends; ``release`` is for a clean end and for tests."""

    def __init__(self, descriptor: int, path: Path):
        self._descriptor = descriptor
        self.path = path

    def release(self) -> None:
        """Let go. The file stays: unlinking it would let two processes lock two files of one name."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.ftruncate(descriptor, 0)
            os.close(descriptor)


def acquire(paths: Paths, wait: float = 0.0) -> Lock:
    """Take the lock of this home; ``paths.prepare()`` has been called.

    ``wait``: seconds to wait for another holder to leave (``--replace``). Raises `AlreadyRunning` with the holder's
    pid, and `HomeUnusable` when the file cannot be opened.
    """
    descriptor = _open(paths.lock, os.O_RDWR | os.O_CREAT)
    try:
        waited = 0.0  # by our own steps: a pause of this process, or of the machine, is not the holder's
        while not _locked(try_exclusive, descriptor, paths.lock):
            holder = pidfile.parse(os.pread(descriptor, 4096, 0))
            patience = wait if holder is not None and holder.is_alive() else max(wait, _CONFUSED)
            # A held lock that names no living process is either one that was taken a moment ago, or hermesctl that
            # looks (`is_held`): it holds the lock for some microseconds.
            if waited >= patience:
                pid = holder.pid if holder is not None and holder.is_alive() else 0
                raise AlreadyRunning(pid, str(paths.home))
            time.sleep(_STEP)
            waited += _STEP
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, pidfile.encode(pidfile.own_record(paths.control_socket)), 0)
    except OSError as error:
        os.close(descriptor)
        raise HomeUnusable(f"cannot write the lock file {paths.lock}: {error.strerror}") from error
    except BaseException:
        os.close(descriptor)
        raise
    return Lock(descriptor, paths.lock)


def is_held(path: Path) -> bool:
    """Whether some process holds the lock now. Raises `HomeUnusable` when that cannot be found out."""
    try:
        descriptor = _open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _locked(try_shared, descriptor, path)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Standing:
    """What the files of a home say. ``state``: "running", "stale" (dead, its PID file is left), or "none"."""

    state: str
    record: Record | None = None

    @property
    def pid(self) -> int:
        """The running hermesd's, or the dead one's; 0 = unknown."""
        return self.record.pid if self.record else 0


def describe(paths: Paths) -> Standing:
    """Whether a hermesd holds this home, and which. The lock decides, never the PID file's number."""
    if is_held(paths.lock):
        for path in (paths.pid_file, paths.lock):
            record = pidfile.read(path)
            if record is not None and record.is_alive():
                return Standing("running", record)
        return Standing("running")
    if os.path.lexists(paths.pid_file):
        return Standing("stale", pidfile.read(paths.pid_file))
    return Standing("none")


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except (FileNotFoundError, NotADirectoryError) as error:
        if flags & os.O_CREAT:
            raise HomeUnusable(f"cannot open the lock file {path}: {error.strerror}") from error
        raise FileNotFoundError(*error.args) from error
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise HomeUnusable(f"cannot open the lock file {path}: {reason}") from error


def _locked(attempt: Callable[[int], bool], descriptor: int, path: Path) -> bool:
    try:
        return attempt(descriptor)
    except OSError as error:
        raise HomeUnusable(f"cannot lock {path}: {error.strerror} (is its file system without locks?)") from error
