"""What can go wrong around a home and its lock."""

from __future__ import annotations


class InstanceError(Exception):
    """Base; the text is a sentence for the user."""


class HomeUnusable(InstanceError):
    """The home, or a place below it, cannot be read or written, or belongs to somebody else."""


class AlreadyRunning(InstanceError):
    """Another hermesd holds this home. ``pid`` is its pid, 0 when it has not said it."""

    def __init__(self, pid: int, home: str):
        who = f"pid {pid}" if pid else "it has not written its pid yet"
        super().__init__(f"another hermesd holds {home} ({who})")
        self.pid = pid


class DaemonNotStarted(InstanceError):
    """``--daemon``: the hermesd in the background did not get ready. ``exit_status`` is its own where it has one."""

    def __init__(self, message: str, exit_status: int = 1):
        super().__init__(message)
        self.exit_status = exit_status
