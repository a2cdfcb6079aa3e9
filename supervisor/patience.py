"""How long somebody else is given, of the time in which hermesd itself ran.

A supervisor that was stopped, swapped out or suspended, or whose machine stood still, finds its timers overdue. Whoever
was to do something by then has had no time either, and is not to blame.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

OWN_PAUSE = 0.25
"""Seconds that a timer may be late. Later, the whole delay is hermesd's own, and is given once more."""


def insist_in(seconds: float, insist: Callable[[], object]) -> None:
    """Call ``insist`` when ``seconds`` are over that somebody has to do something by himself."""
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds

    def look() -> None:
        if (pause := loop.time() - due) > OWN_PAUSE:
            insist_in(pause, insist)
        else:
            insist()

    loop.call_at(due, look)
