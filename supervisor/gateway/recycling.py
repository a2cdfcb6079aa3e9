"""Workers that have used up what they may: replaced between two turns, or ended at once for what they do to others.

What is too much is decided and measured in the pool (`limits`, `enforcement`); here is what becomes of their sessions.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from hermesd.supervisor.mcp.holders import Holders
from hermesd.supervisor.pool import worker_life
from hermesd.supervisor.pool.enforcement import Enforcer
from hermesd.supervisor.pool.pool import Pool
from hermesd.supervisor.pool.worker import Worker
from hermesd.supervisor.tasks import Tasks

from .lane import Lane

if TYPE_CHECKING:
    from .lanes import Lanes

log = logging.getLogger("hermesd.gateway")


class Recycling:
    """Owned by `Lanes`. ``holders`` has the workers that serve all sessions."""

    def __init__(self, lanes: Lanes, pool: Pool, tasks: Tasks, holders: Holders | None):
        self._lanes = lanes
        self._pool = pool
        self._holders = holders
        self.enforcer = Enforcer(
            pool,
            limits=lanes.settings.limits,
            tasks=tasks,
            busy=self._busy,
            recycle=self.recycle,
            end=self.end,
        )
        if holders is not None:
            holders.use(self.enforcer)

    def after_turn(self, lane: Lane) -> None:
        """Called when a turn has ended, before its worker can have another one."""
        if lane.worker is None or lane.ephemeral or self._lanes.draining:
            return
        if reason := self.enforcer.after_turn(lane.worker, lambda: self._kept_back(lane)):
            self._retire(lane, lane.worker, reason)

    def recycle(self, worker: Worker, reason: str) -> None:
        """End a worker between two turns; one that has a turn by now is looked at again at its end."""
        if worker.is_spare:
            log.info("the spare worker %s is replaced: %s", worker.id, reason)
            self._pool.replace_spare(worker)
        elif worker.serves and self._holders is not None:
            self._holders.recycle(worker, reason)
        lane = self._lanes.lane_with(worker)
        if lane is not None and lane.life is worker_life.State.IDLE and lane.current is None:
            self._retire(lane, worker, reason)

    def _retire(self, lane: Lane, worker: Worker, reason: str) -> None:
        worker.ended_for = f"recycled: {reason}"
        log.info("worker %s of %s is recycled: %s", worker.id, lane.key, reason,
                 extra={"session": lane.key, "worker": worker.id})  # fmt: skip
        self._lanes.live(lane, worker_life.Event.RETIRE)

    def end(self, worker: Worker, reason: str) -> None:
        """End a worker at once, whatever it does; its running turn is lost with it."""
        if worker.is_spare:
            log.error("the spare worker %s is ended: %s", worker.id, reason)
            self._pool.replace_spare(worker)
        elif worker.serves and self._holders is not None:
            self._holders.end(worker, reason)
        lane = self._lanes.lane_with(worker)
        if lane is None or lane.life not in worker_life.WITH_PROCESS:
            return
        worker.ended_for = reason
        log.error("worker %s of %s is ended: %s", worker.id, lane.key, reason,
                  extra={"session": lane.key, "worker": worker.id})  # fmt: skip
        self._lanes.live(lane, worker_life.Event.HUNG)

    def has_turn(self, worker: Worker) -> bool:
        """Whether a turn was promised to it, or it makes its agent: what it uses is used for something."""
        lane = self._lanes.lane_with(worker)
        return lane is not None and (lane.current is not None or lane.life is worker_life.State.STARTING)

    def _busy(self) -> Iterator[Worker]:
        for lane in self._lanes.lanes.values():
            if lane.current is not None and lane.worker is not None:
                yield lane.worker
        if self._holders is not None:
            yield from self._holders.busy()

    def _kept_back(self, lane: Lane) -> Callable[[], None]:
        """The lane has no turn until what is returned is called."""
        holding = contextlib.ExitStack()
        holding.enter_context(self._lanes.orders.held(lane))
        return holding.close
