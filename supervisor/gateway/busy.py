"""A message arrives while its session's turn runs: what becomes of it. Pure."""

from __future__ import annotations

from enum import StrEnum


class BusyMode(StrEnum):
    """The setting ``hermesd.busy``."""

    QUEUE = "queue"  # its turn comes after the running one
    INTERRUPT = "interrupt"  # the running turn ends, this one follows
    STEER = "steer"  # handed to the running turn where the agent takes it, else queued


class Verdict(StrEnum):
    RUN = "run"  # nothing runs: an ordinary turn
    QUEUE = "queue"
    INTERRUPT_THEN_QUEUE = "interrupt_then_queue"
    STEER = "steer"


def judge(mode: BusyMode, *, running: bool, waiting: bool, own_session: bool) -> Verdict:
    """``waiting``: the running turn waits for an approval, which a new message must not disturb.

    ``own_session``: the session is that request's alone (a stateless API call); nothing can be running in it.
    """
    if not running or own_session:
        return Verdict.RUN
    if waiting or mode is BusyMode.QUEUE:
        return Verdict.QUEUE
    return Verdict.STEER if mode is BusyMode.STEER else Verdict.INTERRUPT_THEN_QUEUE
