"""Whether a worker uses the processor although it has no turn. Pure: times in, verdicts out.

A busy loop that an agent, one of its threads or a tool server was left in goes on for hours and answers nobody. The
heartbeats tell of it: each says what its process has used so far.
"""

from __future__ import annotations

from typing import NamedTuple

WINDOW = 15.0
"""Seconds that it has to last. What is left to do after a turn (an index, a memory) is done sooner."""

SHARE, WHOLE_SHARE = 0.1, 0.3
"""Of one core: of its own process, and of all below it, for tool servers may have work of their own. A busy loop may
get no more on a machine that has other work; an idle agent uses a thousandth.
"""


class Signs(NamedTuple):
    """What a look found. ``turns``: how many it was given; ``at``: monotonic seconds of ``cpu``, its CPU seconds.

    ``whole``: of all that is below it, too, and not only of its own process.
    """

    turns: int
    at: float
    cpu: float
    whole: bool = False


class Burn(NamedTuple):
    """It has used ``cpu`` seconds in ``seconds``."""

    cpu: float
    seconds: float

    def __str__(self) -> str:
        return f"busy without a turn: {self.cpu:.1f} s CPU within {self.seconds:.0f} s"


def judge(before: Signs | None, now: Signs) -> tuple[Signs, Burn | None]:
    """The beginning of the stretch that is looked at from here on, and what there is to say of the one until now."""
    if before is None or (before.turns, before.whole) != (now.turns, now.whole):
        return now, None
    seconds = now.at - before.at
    if seconds < WINDOW:
        return before, None
    used = now.cpu - before.cpu
    share = WHOLE_SHARE if now.whole else SHARE
    return now, Burn(used, seconds) if used >= share * seconds else None
