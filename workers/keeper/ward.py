"""One worker as its keeper holds it: the process, its pidfd, its container and how far its end has come."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from hermesd.ipc.keeping import Held
from hermesd.workers.containment import pidfd_info
from hermesd.workers.containment.ceiling import Hold
from hermesd.workers.containment.contract import Container

from . import ward_life
from .ward_life import Event, State

STATUS_SECONDS = 1.0
"""How long the exit status of a process that is not the keeper's child may take. Its parent has to reap it first."""


@dataclass(slots=True)
class Ward:
    """``died_at`` and ``deadline`` are monotonic seconds; ``pidfd`` is -1 for one that had been reaped when it came.

    ``taken``: another keeper forked it, which is dead.
    """

    worker: str
    pid: int
    pidfd: int
    start_ticks: int
    container: Container
    state: State = State.RUNNING
    deadline: float = 0.0
    taken: bool = False
    dead: bool = False
    emptied: bool = False
    died_at: float = 0.0
    exit_code: int | None = None
    own_cpu: float = 0.0
    max_rss: int = 0
    hold: Hold = field(default_factory=Hold)
    out_of_memory: bool = False
    left_over: int | None = None  # counted once, when the emptying begins

    def apply(self, event: Event, now: float) -> None:
        """Take one event; times follow from the state it leads to."""
        self.state = ward_life.step(self.state, event)
        if event is Event.DUMP_THEN_KILL and self.state is State.DUMPING and not self.deadline:
            self.deadline = now + ward_life.DUMP_SECONDS
        if self.state is State.EMPTYING and not self.died_at:
            self.died_at = now

    def reaped(self, status: int, user: float, system: float, max_rss_kib: int) -> None:
        """The kernel's last words on the worker's own process (``wait4``)."""
        self.dead = True
        self.exit_code = os.waitstatus_to_exitcode(status)
        self.own_cpu = user + system
        self.max_rss = max_rss_kib * 1024

    def status_known(self, now: float) -> bool:
        """Whether all is known of its end that will ever be. Asks the kernel, for one that was taken over."""
        if self.dead and self.exit_code is None and self.pidfd >= 0:
            self.exit_code = pidfd_info.exit_code(self.pidfd)
            return self.exit_code is not None or now - self.died_at >= STATUS_SECONDS
        return self.dead

    def held(self) -> Held:
        return Held(self.worker, self.container.tag, self.pid, self.start_ticks)

    def close(self) -> None:
        if self.pidfd >= 0:
            os.close(self.pidfd)
