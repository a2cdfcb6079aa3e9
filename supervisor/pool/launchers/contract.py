"""How a worker process comes to exist and ends, whatever the means. The pool uses nothing else."""

from __future__ import annotations

from typing import Protocol

from hermesd.ipc.keeping import Forked, ForkFailed, Gone
from hermesd.workers.spec import WorkerSpec


class LauncherListener(Protocol):
    """The pool's side: each of these is called on the event loop, the first three once per worker, in this order."""

    def forked(self, message: Forked) -> None: ...

    def fork_failed(self, message: ForkFailed) -> None: ...

    def gone(self, message: Gone) -> None: ...

    def launcher_died(self, launcher: Launcher, reason: str) -> None:
        """It is dead, unasked; what it said before has been told. Its workers may live on."""


class Launcher(Protocol):
    """What holds worker processes: it reports and ends them, and the newest one also starts them."""

    containment: str
    refused: tuple[str, ...]
    warnings: tuple[str, ...]
    memory_limit: str  # what holds its workers to their memory limit, "" for nobody
    tasks_limit: str
    pid: int
    start_ticks: int
    started_at: float  # Unix seconds
    owes_since: float  # monotonic seconds since when an answer is owed and none came; 0.0: none is owed
    state: str  # "starting" | "running" | "lost" (about to be gone) | "leaving" | "gone"

    async def start(self) -> None:
        """Ready to launch when it returns. Raises `hermesd.supervisor.errors.StartFailed`."""

    def launch(self, spec: WorkerSpec) -> None:
        """Start a worker. Answered by ``forked`` or ``fork_failed``, unless the launcher dies over it."""

    def take(self, worker: str, tag: str, pid: int, start_ticks: int) -> None:
        """Hold a worker whose own launcher is dead. Answered like `launch`, and by ``gone`` at its end."""

    def kill(self, worker: str, *, dump: bool = False) -> None:
        """End a worker and all below it; answered by ``gone``. A worker that is not there is no error."""

    def end_hung(self) -> None:
        """It does not run any more, and nothing it is asked for will come: kill it. ``launcher_died`` follows."""

    async def stop(self, timeout: float) -> None:
        """End every worker and the launcher itself; nothing of it is left when this returns."""

    def leave_alone(self) -> None:
        """Let go of it and its workers as they are: another hermesd will take them over."""
