"""Whether a worker uses the processor although it has no turn. Pure: times in, verdicts out.

A busy loop that an agent, one of its threads or a tool server was left in goes on for hours and answers nobody. The
heartbeats tell of the worker itself: each says what its process has used so far. What its tool servers use, the kernel
tells.
"""

from __future__ import annotations

from typing import NamedTuple

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
    """It has used ``cpu`` seconds in ``seconds``; ``whole``: together with all that is below it."""

    cpu: float
    seconds: float
    whole: bool = False

    def __str__(self) -> str:
        whose = " of it and what it started" if self.whole else ""
        return f"busy without a turn: {self.cpu:.1f} s CPU{whose} within {self.seconds:.0f} s"


def judge(before: Signs | None, now: Signs, lasting: float) -> tuple[Signs, Burn | None]:
    """The beginning of the stretch that is looked at from here on, and what there is to say of the one until now.

    ``lasting``: seconds that it has to be busy.
    """
    if before is None or (before.turns, before.whole) != (now.turns, now.whole):
        return now, None
    seconds = now.at - before.at
    if seconds < lasting:
        return before, None
    used = now.cpu - before.cpu
    share = WHOLE_SHARE if now.whole else SHARE
    return now, Burn(used, seconds, now.whole) if used >= share * seconds else None
