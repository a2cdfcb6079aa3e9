"""How long a turn may take, and how long it may show nothing. Pure."""

from __future__ import annotations

from dataclasses import dataclass

WORKER_FIRST = 2.0
"""Seconds that the worker has to end a turn at its time limit by itself. One that is busy in C does not look."""


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds; 0 = none. ``quiet``: without any text, tool, status or question from the agent.

    ``warn``: the same, after which its user is told once.
    """

    turn: float = 0.0
    quiet: float = 0.0
    warn: float = 0.0


def overrun(limits: TimeLimits, *, now: float, started_at: float, active_at: float, waits_for_user: bool) -> str:
    """Why a running turn must end now, for its user; "" if it may go on. Times in monotonic seconds."""
    if limits.turn and now - started_at > limits.turn + WORKER_FIRST:
        return f"the turn took longer than {limits.turn:g} s"
    # The agent cannot say anything while the one who was asked thinks.
    if limits.quiet and not waits_for_user and now - max(started_at, active_at) > limits.quiet:
        return f"the agent showed nothing for {limits.quiet:g} s"
    return ""


def is_worth_a_warning(limits: TimeLimits, *, now: float, started_at: float, active_at: float) -> bool:
    """Whether a running turn that waits for nobody has shown nothing for long. Times in monotonic seconds."""
    return bool(limits.warn) and now - max(started_at, active_at) > limits.warn
