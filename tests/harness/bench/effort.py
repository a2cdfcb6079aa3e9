"""How much is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Say = Callable[[str], None]
"""Takes one line of progress."""


@dataclass(frozen=True, slots=True)
class Effort:
    """Counts of one whole bench. A figure of the table is the median of ``runs`` values."""

    runs: int = 5
    starts: int = 5  # of cheap processes, in each run; their median is the run's value
    idle_sessions: int = 200
    spawned: int = 3  # full interpreters beside the idle sessions, in each run
    round_trips: int = 1000
    pipelined: int = 5000  # messages
    sessions: tuple[int, ...] = (1, 10, 50)  # that write, or talk, at the same time
    journalled_turns: int = 150
    whole_turns: int = 300
    quiet_sessions: int = 8
    disturbed_seconds: float = 0.55  # by each disturbance, in each run
    kills: int = 8  # by each of our strategies, in each run
    idle_workers: int = 200
    idle_seconds: float = 20.0
    messages: int = 15  # on each chat platform, in each run
    chats: tuple[str, ...] = ("telegram", "discord", "matrix")
    agents: tuple[str, ...] = ("llm", "hermes")  # whose model fails
    windows: tuple[bool, ...] = (False, True)  # without and with the wait for a burst's next line, on Matrix
    wakes_hermes: bool = True


WHOLE = Effort()

# Longer than the twenty seconds between two heartbeats of an idle worker: else an idle hermesd may not have run at all.
QUICK = Effort(
    runs=1,
    starts=1,
    idle_sessions=2,
    spawned=1,
    round_trips=20,
    pipelined=100,
    sessions=(1, 2),
    journalled_turns=8,
    whole_turns=6,
    quiet_sessions=2,
    disturbed_seconds=1.0,
    kills=1,
    idle_workers=2,
    idle_seconds=21.0,
    messages=1,
    chats=("matrix",),
    agents=("llm",),
    windows=(False,),
    wakes_hermes=False,
)
"""Enough to see that every measurement works; its figures mean nothing."""
