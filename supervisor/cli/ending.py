"""Seeing a daemon end: its process by a pidfd, and its lock, which is the truth."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

from .exits import CommandError, Exit

if TYPE_CHECKING:
    from hermesd.supervisor.instance.lock import Standing

_POLL = 0.02  # seconds between tries of the lock, where no event tells of it


class Ending:
    """Made before the daemon is asked to stop; then `wait`. ``describe`` looks at lock and PID file."""

    def __init__(self, describe: Callable[[], Standing]) -> None:
        self._describe = describe
        found = describe()
        self.pid = (found.pid or None) if found.state == "running" else None
        self._pidfd = -1
        if self.pid is not None and hasattr(os, "pidfd_open"):
            try:
                self._pidfd = os.pidfd_open(self.pid)
            except OSError:  # gone since: the lock will say so
                self._pidfd = -1
            else:
                self._drop_if_another()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)

    def wait(self, deadline: float) -> None:
        """Returns when the process is gone and no longer holds the lock. Raises `CommandError` (9) at the deadline.

        The lock may be held by a successor by then.
        """
        if self._pidfd >= 0:
            poller = select.poll()
            poller.register(self._pidfd, select.POLLIN)
            if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                self._too_late()
        while self._holds():
            if time.monotonic() >= deadline:
                self._too_late()
            time.sleep(_POLL)

    def _holds(self) -> bool:
        found = self._describe()
        return found.state == "running" and (found.pid or None) == self.pid

    def _drop_if_another(self) -> None:
        """The pid may have been given anew between the look and the pidfd: a second look settles it."""
        if not self._holds():
            os.close(self._pidfd)
            self._pidfd = -1

    def _too_late(self) -> NoReturn:
        message = f"process {self.pid} has not ended yet and goes on stopping"
        raise CommandError(Exit.TIMED_OUT, "timed_out", message, "hermesctl status")
