"""How often a route may be used. Pure: the time is passed in."""

from __future__ import annotations

from collections import defaultdict, deque

WINDOW = 60.0


class Rates:
    """At most ``count`` requests for each name in any minute."""

    def __init__(self, count: int):
        self._count = count
        self._taken: defaultdict[str, deque[float]] = defaultdict(deque)

    def take(self, name: str, now: float) -> float:
        """0, and the request counts, or the seconds until one may come again. ``now`` in monotonic seconds."""
        taken = self._taken[name]
        while taken and taken[0] <= now - WINDOW:
            taken.popleft()
        if len(taken) < self._count:
            taken.append(now)
            return 0.0
        return taken[0] + WINDOW - now
