"""The messages between the supervisor and a keeper, over the keeper's Unix socket (`hermesd.ipc.framing`).

They are few on purpose: the keeper forks, reaps, kills and reports, and decides nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .messages import Message


@dataclass(frozen=True, slots=True)
class Claim(Message):
    """First message of a supervisor: proves by the instance's secret that the keeper is its own."""

    KIND: ClassVar[str] = "claim"
    secret: str


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
    workers: tuple[str, ...] = ()  # the living ones, for a supervisor that takes over


@dataclass(frozen=True, slots=True)
class Fork(Message):
    """Start a worker. The read end of a pipe that holds its `hermesd.workers.spec.WorkerSpec` travels beside it.

    The keeper hands the descriptor on unread: what is in it (the one-time token) must not stay in a heap that the next
    worker is a copy of.
    """

    KIND: ClassVar[str] = "fork"
    worker: str
    tag: str


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
    """A worker is dead and its container is proved empty and removed; sent once for every `Forked`."""

    KIND: ClassVar[str] = "gone"
    worker: str
    exit_code: int  # as subprocess has it: -9 for SIGKILL
    cpu_seconds: float  # the whole container with its dead, where it knows; else the worker and what it waited for
    max_rss: int  # bytes, of the worker itself
    left_over: int  # processes that outlived the worker and were killed
    took: float  # seconds from the death to the empty container


@dataclass(frozen=True, slots=True)
class Leave(Message):
    """Empty every container and exit."""

    KIND: ClassVar[str] = "leave"


TO_KEEPER: tuple[type[Message], ...] = (Claim, Fork, Kill, Leave)
FROM_KEEPER: tuple[type[Message], ...] = (KeeperReady, Forked, ForkFailed, Gone)
