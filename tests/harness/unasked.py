"""A pool's side for MCP servers in tests that have none."""

from __future__ import annotations

from hermesd.ipc.messages import Listed, ServerNews, StartRequest
from hermesd.supervisor.pool.worker import Worker


class Unasked:
    """Implements `hermesd.supervisor.pool.listeners.ServerListener`."""

    def said(self, worker: Worker, message: StartRequest | ServerNews | Listed) -> None:
        raise AssertionError(f"worker {worker.id} has MCP servers: {message}")

    def taken_over(self, worker: Worker) -> None:
        pass

    def gone(self, worker: Worker) -> None:
        pass
