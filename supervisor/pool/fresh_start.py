"""The end of what an earlier hermesd of this home has left running, before a new one starts anything."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection

from hermesd.supervisor.errors import StartFailed
from hermesd.workers import containment
from hermesd.workers.containment.errors import ContainmentError

log = logging.getLogger("hermesd.app")

SECONDS = 5.0


async def end_leftovers(instance: str, spare: Collection[int]) -> None:
    """Kill what is left of the instance and nobody takes over (``spare``: pids that are); nothing else is ever touched.

    Called under the instance's lock, before its keeper is started. Raises `StartFailed` when it does not end.
    """
    deadline = time.monotonic() + SECONDS
    killed: dict[int, str] = {}
    for name in ("cgroup", "subreaper"):
        try:
            sweeper = containment.choose(instance, name).containment
        except ContainmentError:
            continue
        while left := await asyncio.to_thread(sweeper.sweep, spare):
            killed.update((leftover.pid, leftover.command) for leftover in left)
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"cannot end what an earlier hermesd left: {len(left)} processes, "
                    f"first pid {left[0].pid} ({left[0].command})"
                )
            await asyncio.sleep(0.01)
        break
    if killed:
        log.warning("ended %d processes that an earlier hermesd had left: %s", len(killed), killed)
