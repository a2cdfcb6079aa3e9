"""The messages between the supervisor and a keeper, over the keeper's Unix socket (`hermesd.ipc.framing`).

They are few on purpose: the keeper forks, reaps, kills and reports, and decides nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from .messages import Message

PROTOCOL: Final = 1
"""Of these messages. A keeper outlives the hermesd that started it, and may meet a later one that speaks another."""


@dataclass(frozen=True, slots=True)
class Claim(Message):
    """First message of a supervisor: proves by the instance's secret that the keeper is its own."""

    KIND: ClassVar[str] = "claim"
    secret: str
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class Held:
    """A worker that a keeper holds, as a supervisor needs it that takes over."""

    worker: str
    tag: str
    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class KeeperReady(Message):
    """The keeper's answer to a believed `Claim`; what it can do and what it had to leave out."""

    KIND: ClassVar[str] = "keeper_ready"
    pid: int
    start_ticks: int
    version: str
    containment: str
    refused: tuple[str, ...]  # "cgroup: cannot make ...: Permission denied", one line per better containment
    forks: bool  # False: something made a thread at import, workers are started by exec instead
    warnings: tuple[str, ...] = ()
    workers: tuple[Held, ...] = ()  # whose `Gone` has not been sent, for a supervisor that takes over
    guard: int = 0  # pid of the process that empties the instance when keeper and supervisor are both dead; 0 = none
    memory_limit: str = ""  # what holds a worker to it: "cgroup v2", "cgroup v1", or "" for nobody
    tasks_limit: str = ""
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True)
class Fork(Message):
    """Start a worker. The read end of a pipe that holds its `hermesd.workers.spec.WorkerSpec` travels beside it.

    The keeper hands the descriptor on unread: what is in it (the one-time token) must not stay in a heap that the next
    worker is a copy of.
    """

    KIND: ClassVar[str] = "fork"
    worker: str
    tag: str
    memory_bytes: int = 0  # the worker and all below it may not use more; 0 = no limit
    tasks: int = 0  # the same of processes with their threads


@dataclass(frozen=True, slots=True)
class Forked(Message):
    """The worker is a process now, in its container; its hello comes over ZeroMQ."""

    KIND: ClassVar[str] = "forked"
    worker: str
    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class ForkFailed(Message):
    """No process came of a `Fork`; nothing is left of it."""

    KIND: ClassVar[str] = "fork_failed"
    worker: str
    reason: str


@dataclass(frozen=True, slots=True)
class Kill(Message):
    """End a worker and all below it. ``dump``: first have it write its Python stacks, for at most a second."""

    KIND: ClassVar[str] = "kill"
    worker: str
    dump: bool = False


@dataclass(frozen=True, slots=True)
class Gone(Message):
    """A worker is dead and its container is proved empty and removed; sent once for every `Forked`.

    What ends while no supervisor is there is kept and sent to the one that takes over.
    """

    KIND: ClassVar[str] = "gone"
    worker: str
    exit_code: int | None  # as subprocess has it: -9 for SIGKILL; None: it was not the keeper's child, nobody was told
    cpu_seconds: float  # the whole container with its dead, where it knows; else the worker and what it waited for
    max_rss: int  # bytes, of the worker itself
    left_over: int  # processes that outlived the worker and were killed
    took: float  # seconds from the death to the empty container
    out_of_memory: bool = False  # the kernel has killed some of it at its memory limit


@dataclass(frozen=True, slots=True)
class Take(Message):
    """Hold a worker from now on whose own keeper is dead. Answered by `Forked`, and by `Gone` at its end."""

    KIND: ClassVar[str] = "take"
    worker: str
    tag: str
    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Retire(Message):
    """Fork nothing more, and exit when the last worker is gone: another keeper serves the new sessions."""

    KIND: ClassVar[str] = "retire"


@dataclass(frozen=True, slots=True)
class Leave(Message):
    """Empty every container and exit."""

    KIND: ClassVar[str] = "leave"


TO_KEEPER: tuple[type[Message], ...] = (Claim, Fork, Kill, Take, Retire, Leave)
FROM_KEEPER: tuple[type[Message], ...] = (KeeperReady, Forked, ForkFailed, Gone)
