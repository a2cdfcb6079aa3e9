"""A keeper that an earlier hermesd started: it starts nothing more, and leaves when its last worker is gone."""

from __future__ import annotations

import asyncio
import logging
import time

from hermesd.ipc import keeping
from hermesd.supervisor.instance.keepers import Keepers
from hermesd.workers.containment.usage import age
from hermesd.workers.spec import WorkerSpec

from .claiming import Claimed
from .connection import KeeperConnection
from .contract import LauncherListener
from .held import HeldKeeper

log = logging.getLogger("hermesd.pool.keeper")


class AdoptedKeeper(HeldKeeper):
    """Implements `hermesd.supervisor.pool.launchers.contract.Launcher` for a keeper that was claimed at the start."""

    def __init__(self, listener: LauncherListener, claimed: Claimed, keepers: Keepers):
        super().__init__(listener, keepers)
        self._claimed = claimed
        self._unwanted: list[str] = []
        self._record = claimed.record
        self._describe(claimed.ready)
        self.pid, self.start_ticks = claimed.record.pid, claimed.record.start_ticks
        self.started_at = time.time() - age(self.start_ticks)

    def reject(self, worker: str) -> None:
        """Have it end a worker of it that nobody takes over. Called before `start`."""
        self._unwanted.append(worker)

    async def start(self) -> None:
        """Hear what it has to say from now on. Whom it reports must be known by then."""
        self.state = "running"
        self._watch(self._claimed.pidfd)
        self._connection = KeeperConnection(self._claimed.socket, self._handle, self._lost)
        for worker in self._unwanted:
            self.kill(worker)
        self._send(keeping.Retire())

    def leave_alone(self) -> None:
        if self._connection is None:
            self._claimed.close()
        super().leave_alone()

    def launch(self, spec: WorkerSpec) -> None:
        failure = keeping.ForkFailed(spec.worker, "this keeper is retired")
        asyncio.get_running_loop().call_soon(self._listener.fork_failed, failure)

    def _ended(self, status: int | None) -> None:
        # A child only after hermesd was exec'd anew in place; of others the kernel tells nobody but their parent.
        how = "nobody was told how" if status is None else f"status {status}"
        log.info("the keeper %d of an earlier hermesd has ended: %s", self.pid, how)
        if not self._stopping:
            self._listener.launcher_died(self, f"the keeper {self.pid} of an earlier hermesd ended ({how})")
