"""Ticks that background tasks share, so that an idle hermesd wakes up once for all of them."""

from __future__ import annotations

import asyncio
import math

_EARLY = 1e-3
"""Part of a tick that a wake-up may come too early: a loop's timers are as exact as its clock."""


def tick_after(now: float, every: float) -> float:
    """The next multiple of ``every`` seconds."""
    return (math.floor(now / every + _EARLY) + 1) * every


async def next_tick(every: float) -> float:
    """Sleep until the loop's clock shows a multiple of ``every`` seconds; returns the time that was aimed at."""
    now = asyncio.get_running_loop().time()
    due = tick_after(now, every)
    await asyncio.sleep(due - now)
    return due
