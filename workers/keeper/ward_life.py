"""The life of one worker in its keeper's eyes, as a table. Pure.

Whatever happens, a ward ends *over*: its process reaped, its container empty and removed, and that reported.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    RUNNING = "running"
    DUMPING = "dumping"  # writes its stacks; killed when the time for it is over
    EMPTYING = "emptying"  # being killed, round by round, or already dead with a container to empty
    OVER = "over"


class Event(StrEnum):
    KILL = "kill"
    DUMP_THEN_KILL = "dump_then_kill"
    EXITED = "exited"  # the worker's own process ended; what it left in its container has not
    DUMP_TIME_OVER = "dump_time_over"
    EMPTIED = "emptied"


DUMP_SECONDS = 0.3
"""Time between the request for a stack dump and the kill. A dump of all threads takes under 50 ms with the GIL held."""

TABLE: dict[State, dict[Event, State]] = {
    State.RUNNING: {
        Event.KILL: State.EMPTYING,
        Event.DUMP_THEN_KILL: State.DUMPING,
        Event.EXITED: State.EMPTYING,
    },
    State.DUMPING: {
        Event.KILL: State.EMPTYING,
        Event.DUMP_THEN_KILL: State.DUMPING,
        Event.EXITED: State.EMPTYING,
        Event.DUMP_TIME_OVER: State.EMPTYING,
    },
    State.EMPTYING: {
        Event.KILL: State.EMPTYING,
        Event.DUMP_THEN_KILL: State.EMPTYING,
        Event.EXITED: State.EMPTYING,
        Event.EMPTIED: State.OVER,
    },
    State.OVER: {},
}


def step(state: State, event: Event) -> State:
    """Look one cell up; a KeyError is a bug of the keeper."""
    return TABLE[state][event]
