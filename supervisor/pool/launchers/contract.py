"""How a worker process comes to exist and ends, whatever the means. The pool uses nothing else."""

from __future__ import annotations

from typing import Protocol

from hermesd.ipc.keeping import Forked, ForkFailed, Gone
from hermesd.workers.spec import WorkerSpec


class LauncherListener(Protocol):
    """The pool's side: each of these is called on the event loop, once per worker, in this order."""

    def forked(self, message: Forked) -> None: ...

    def fork_failed(self, message: ForkFailed) -> None: ...

    def gone(self, message: Gone) -> None: ...

    def launcher_died(self, reason: str) -> None:
        """No worker can be started any more and the fate of the living ones is unknown."""


class Launcher(Protocol):
    """One way to start workers."""

    containment: str
    refused: tuple[str, ...]
    warnings: tuple[str, ...]
    pid: int
    started_at: float  # Unix seconds
    state: str  # "starting" | "running" | "gone"

    async def start(self) -> None:
        """Ready to launch when it returns. Raises `hermesd.supervisor.errors.StartFailed`."""

    def launch(self, spec: WorkerSpec) -> None:
        """Start a worker. Answered by ``forked`` or ``fork_failed``."""

    def kill(self, worker: str, *, dump: bool = False) -> None:
        """End a worker and all below it; answered by ``gone``. A worker that is not there is no error."""

    async def stop(self, timeout: float) -> None:
        """End every worker and the launcher itself; nothing of it is left when this returns."""
