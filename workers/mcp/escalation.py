"""How a server is asked to leave, harder each time, as data.

The end is always the same: the container is emptied, also after a leader that exited 0. ``npx`` leaves its server
behind when it is killed, and a server may have started anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Means(StrEnum):
    CLOSE_STDIN = "close stdin"  # the protocol's own way: a server ends at the end of its input
    TERMINATE = "terminate"  # SIGTERM and SIGCONT to its process group; a stopped process takes no TERM without CONT


@dataclass(frozen=True, slots=True)
class Step:
    """Do ``means``, then give the leader ``wait`` seconds to be gone."""

    means: Means
    wait: float


def polite_steps(grace: float, budget: float) -> tuple[Step, ...]:
    """The steps before emptying. ``grace`` is the wait after each, in seconds; all of them fit into ``budget``.

    >>> polite_steps(2.0, 100.0)
    (Step(means=<Means.CLOSE_STDIN: 'close stdin'>, wait=2.0), Step(means=<Means.TERMINATE: 'terminate'>, wait=2.0))
    """
    means = (Means.CLOSE_STDIN, Means.TERMINATE)
    wait = max(0.0, min(grace, budget / len(means)))
    return tuple(Step(each, wait) for each in means)
