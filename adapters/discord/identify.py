"""How soon a new session may be begun: Discord gives a bot some thousand of them a day. Pure.

A bot that spends them all gets its token reset (Discord's documentation, Gateway, Session Start Limit), so a loop of
crashes must slow down long before.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allowance:
    """``session_start_limit`` of GET /gateway/bot."""

    total: int
    remaining: int
    reset_after: float  # seconds

    def spent_one(self) -> Allowance:
        return Allowance(self.total, self.remaining - 1, self.reset_after)


def wait_before(allowance: Allowance, last: float, now: float) -> float:
    """Seconds until the next IDENTIFY, where the last one was at ``last`` (Unix seconds, 0 = never).

    The first half may be spent at will. The second is spread over what is left of the day.
    """
    if allowance.remaining <= 0:
        return allowance.reset_after
    if allowance.remaining > allowance.total // 2:
        return 0.0
    return max(0.0, last + allowance.reset_after / allowance.remaining - now)
