"""Who hears what the workers say and how they end: the gateway, and those who look after the MCP servers.

Each call happens on the event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hermesd.ipc.keeping import Gone
from hermesd.ipc.messages import (
    Listed,
    Logs,
    Message,
    ServerNews,
    SharedCall,
    SharedCancel,
    SharedResult,
    Snapshot,
    StartRequest,
)

from .worker import Worker


class PoolListener(Protocol):
    """The gateway's side."""

    def worker_ready(self, worker: Worker, error: str) -> None:
        """The worker of a session has its agent, or ``error`` says why its turns will fail."""

    def worker_said(self, worker: Worker, message: Message, settle: Callable[[], None]) -> None:
        """A message of a session's worker. A durable one must be settled once it is journalled."""

    def worker_has(self, worker: Worker, message: Message) -> None:
        """A reliable message to the worker has arrived there."""

    def worker_forked(self, worker: Worker) -> None:
        """The worker of a session is a process now, or another keeper holds it."""

    def worker_snapshot(self, worker: Worker, snapshot: Snapshot) -> None:
        """How things stand in a worker that an earlier hermesd started; what it had to say durably came before."""

    def worker_gone(self, worker: Worker, gone: Gone) -> None:
        """The worker is dead and nothing of it is left.

        Or it never came to be: no pid, and exit code 70, or None where its start went down with its keeper.
        """

    def worker_logs(self, worker: Worker, logs: Logs) -> None: ...


class ServerListener(Protocol):
    """Who decides about the MCP servers of all workers."""

    def said(self, worker: Worker, message: StartRequest | ServerNews | Listed) -> None: ...

    def taken_over(self, worker: Worker) -> None:
        """A worker that an earlier hermesd started has told which of its servers run."""

    def gone(self, worker: Worker) -> None: ...


class HolderListener(Protocol):
    """Who knows which worker holds an MCP server for all sessions."""

    def said(self, worker: Worker, message: SharedCall | SharedCancel | SharedResult) -> None: ...

    def gone(self, worker: Worker, gone: Gone) -> None: ...
