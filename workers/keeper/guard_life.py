"""When a guard acts, as a table. Pure.

A guard outlives its keeper. As long as a hermesd holds the instance's lock, the workers are that hermesd's: it gives
them another keeper, which has a guard of its own. With neither of them for too long, all that is left is killed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from hermesd.workers.patience import Stretch


class State(StrEnum):
    WATCHING = "watching"  # its keeper lives; the looks begin with that one's death
    BRIDGING = "bridging"  # its keeper is dead, a hermesd lives
    COUNTING = "counting"  # both are dead; a hermesd may still come
    KILLING = "killing"
    OVER = "over"


class Event(StrEnum):
    """What a look has shown."""

    LOCK_HELD = "lock_held"
    SUCCEEDED = "succeeded"  # the lock is held, and another keeper of the instance lives
    LOCK_FREE = "lock_free"
    TIME_OVER = "time_over"  # the lock has been free for too long
    CLEAN = "clean"  # nothing is left to kill


TABLE: dict[State, dict[Event, State]] = {
    State.WATCHING: {
        Event.LOCK_HELD: State.BRIDGING,
        Event.SUCCEEDED: State.OVER,
        Event.LOCK_FREE: State.COUNTING,
    },
    State.BRIDGING: {
        Event.LOCK_HELD: State.BRIDGING,
        Event.SUCCEEDED: State.OVER,
        Event.LOCK_FREE: State.COUNTING,
    },
    State.COUNTING: {
        Event.LOCK_HELD: State.BRIDGING,
        Event.SUCCEEDED: State.OVER,
        Event.LOCK_FREE: State.COUNTING,
        Event.TIME_OVER: State.KILLING,
    },
    State.KILLING: {
        # A hermesd that has started meanwhile sweeps by itself, and must not lose what it starts.
        Event.LOCK_HELD: State.BRIDGING,
        Event.SUCCEEDED: State.OVER,
        Event.LOCK_FREE: State.KILLING,
        Event.CLEAN: State.OVER,
    },
    State.OVER: {},
}


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at the world."""

    lock_held: bool
    other_keeper: bool


@dataclass(frozen=True, slots=True)
class Watch:
    """Where a guard is. ``free``: how long the lock has been free in one stretch."""

    state: State = State.WATCHING
    free: Stretch = field(default_factory=Stretch)

    def look(self, seen: Seen, now: float, adopt_timeout: float) -> Watch:
        """Take one look into account; ``now`` in monotonic seconds."""
        event = self._event(seen)
        state = TABLE[self.state][event]
        if event is not Event.LOCK_FREE:
            return Watch(state)
        free = self.free.look(now)
        if state is State.COUNTING and free.lasted > adopt_timeout:
            state = TABLE[state][Event.TIME_OVER]
        return Watch(state, free)

    def clean(self) -> Watch:
        """Nothing is left of the instance."""
        return replace(self, state=TABLE[self.state][Event.CLEAN])

    @staticmethod
    def _event(seen: Seen) -> Event:
        if not seen.lock_held:
            return Event.LOCK_FREE
        return Event.SUCCEEDED if seen.other_keeper else Event.LOCK_HELD
