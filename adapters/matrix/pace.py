"""How fast the server lets us write, learned from its refusals. Pure; times are of the event loop's clock.

A server counts what an account writes in all rooms together. How much it allows is its owner's affair, and told only by
a refusal, with the time until the next message may come: at most the time between two.
"""

from __future__ import annotations

from hermesd.adapters.contract import Rate

REMEMBERED = 600.0
"""Seconds for which it is gone by after the last refusal. Then it is found out anew, which costs one refused call."""

SHORTEST, LONGEST = 1.0, 10.0
"""Seconds between two messages that are believed."""

MARGIN = 0.1
"""Seconds after the time that the server names, which is of its clock, and cut to whole milliseconds."""


class Pace:
    """Of one account."""

    def __init__(self) -> None:
        self._interval = 0.0
        self._refused_at = 0.0
        self._closed_until = 0.0

    def refused(self, after: float, now: float) -> float:
        """The server wants no message for so many seconds; returns for how many there will be none."""
        self._interval = max(self.interval(now), SHORTEST, min(after, LONGEST))
        self._refused_at = now
        self._closed_until = max(self._closed_until, now + after + MARGIN)
        return self.closed_for(now)

    def closed_for(self, now: float) -> float:
        return max(0.0, self._closed_until - now)

    def interval(self, now: float) -> float:
        """Seconds between two messages; 0: as far as we know there are none."""
        return self._interval if now - self._refused_at < REMEMBERED else 0.0

    def rate(self, now: float) -> Rate | None:
        """For answers that are being written: half of what there is, the rest is for their ends."""
        interval = self.interval(now)
        return Rate(1, 2 * interval) if interval else None
