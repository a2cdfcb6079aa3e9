"""The end of all sessions, when hermesd stops: turns first, then workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hermesd.supervisor.pool import worker_life

if TYPE_CHECKING:
    from .lanes import Lanes


class Stopping:
    """Owned by `Lanes`."""

    def __init__(self, lanes: Lanes):
        self._lanes = lanes

    async def drain(self, timeout: float, progress: Callable[[int], None]) -> int:
        """Start nothing more and let what runs end. Returns the turns that had to be interrupted.

        A turn that does not end within ``stop_grace`` of its interrupt loses its worker.
        """
        lanes = self._lanes
        lanes.draining = True
        deadline = time.monotonic() + timeout
        while (running := [lane.current for lane in lanes.lanes.values() if lane.current is not None]) and (
            left := deadline - time.monotonic()
        ) > 0:
            progress(len(running))
            await asyncio.wait([turn.ended for turn in running], timeout=min(left, 1.0))
        late = [lane for lane in lanes.lanes.values() if lane.current is not None]
        if late:
            interrupted = asyncio.gather(*(lanes.orders.interrupt(lane.key, "hermesd stops") for lane in late))
            await asyncio.wait([interrupted], timeout=lanes.settings.stop_grace)
            for lane in late:
                if lane.current is not None:
                    lanes.live(lane, worker_life.Event.KILL)
            await interrupted
        return len(late)

    async def stop_workers(self, timeout: float) -> bool:
        """Ask every worker to end. True when all of them did within the time."""
        lanes = self._lanes
        for lane in list(lanes.lanes.values()):
            lane.restarting = False
            lanes.live(lane, worker_life.Event.STOP)
        lanes.pool.stop_spares(lanes.settings.stop_grace)
        return await lanes.pool.wait_all_gone(timeout)
