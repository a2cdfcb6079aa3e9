"""The life of one platform's connection, as a table. Pure.

Nothing outside this file changes a `State`. `step` looks one cell up; a missing cell is the error. Workers do not occur
here: nothing that happens to one reaches a connection.

What a client library mends by itself (a dropped socket that it resumes, a long poll that timed out) is no event: the
adapter says it in its own `hermesd.adapters.contract.State`, which is shown while the connection is *online*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

REMOTE_DELAYS = (30.0, 60.0, 120.0, 240.0, 300.0)
"""Seconds between the tries to reach a service of somebody else's; the last one for ever."""

LOCAL_DELAYS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""The same for what is on this machine, such as a port that another program still holds."""

REFUSED_DELAY = 3600.0
"""A token that was refused is hardly mended by itself, and each try counts against its owner."""

STEADY_SECONDS = 60.0
"""Online for so long, a connection that ends begins its delays anew."""


class State(StrEnum):
    """The words that ``hermesctl platforms`` shows."""

    STOPPED = "stopped"
    CONNECTING = "connecting"
    ONLINE = "online"
    BACKING_OFF = "backing_off"  # not reachable; a timer tries again
    CONFLICT = "conflict"  # somebody else uses the token; a timer looks again
    REFUSED = "refused"  # the platform does not accept the token; a long timer, or a person
    UNAVAILABLE = "unavailable"  # its library is missing or its settings are wrong: only a person can mend that
    PAUSED = "paused"  # by a person


class Event(StrEnum):
    """What happens to a connection."""

    WANTED = "wanted"  # hermesd starts, or its settings have changed
    STARTED = "started"
    FAILED = "failed"  # could not start, or was lost
    CONFLICTED = "conflicted"
    DENIED = "denied"
    BROKEN = "broken"
    TIMER = "timer"
    PAUSE = "pause"
    RESUME = "resume"
    RECONNECT = "reconnect"
    STOP = "stop"


class Action(StrEnum):
    """What the shell (`supervisor/platforms/connection.py`) does about it."""

    CONNECT = "connect"  # make the adapter anew and start it
    DISCONNECT = "disconnect"
    ARM_TIMER = "arm_timer"
    FORGET_TRIES = "forget_tries"
    TAKE_UP = "take_up"  # send what has waited for it


@dataclass(frozen=True, slots=True)
class Step:
    """One cell of the table."""

    state: State
    actions: tuple[Action, ...] = ()


_ENDED = {
    Event.FAILED: Step(State.BACKING_OFF, (Action.DISCONNECT, Action.ARM_TIMER)),
    Event.CONFLICTED: Step(State.CONFLICT, (Action.DISCONNECT, Action.ARM_TIMER)),
    Event.DENIED: Step(State.REFUSED, (Action.DISCONNECT, Action.ARM_TIMER)),
    Event.BROKEN: Step(State.UNAVAILABLE, (Action.DISCONNECT,)),
}
_UP = {
    **_ENDED,
    Event.PAUSE: Step(State.PAUSED, (Action.DISCONNECT,)),
    Event.STOP: Step(State.STOPPED, (Action.DISCONNECT,)),
}
_ANEW = Step(State.CONNECTING, (Action.FORGET_TRIES, Action.CONNECT))
_DOWN = {
    Event.WANTED: _ANEW,
    Event.RESUME: _ANEW,
    Event.RECONNECT: _ANEW,
    Event.PAUSE: Step(State.PAUSED),
    Event.STOP: Step(State.STOPPED),
}
_WAITING = {**_DOWN, Event.TIMER: Step(State.CONNECTING, (Action.CONNECT,))}

TABLE: dict[State, dict[Event, Step]] = {
    State.STOPPED: {**_DOWN, Event.BROKEN: Step(State.UNAVAILABLE)},
    State.CONNECTING: {
        **_UP,
        Event.STARTED: Step(State.ONLINE, (Action.TAKE_UP,)),
        Event.RESUME: Step(State.CONNECTING),
        Event.RECONNECT: Step(State.CONNECTING, (Action.DISCONNECT, Action.FORGET_TRIES, Action.CONNECT)),
    },
    State.ONLINE: {
        **_UP,
        Event.RESUME: Step(State.ONLINE),
        Event.RECONNECT: Step(State.CONNECTING, (Action.DISCONNECT, Action.FORGET_TRIES, Action.CONNECT)),
    },
    State.BACKING_OFF: _WAITING,
    State.CONFLICT: _WAITING,
    State.REFUSED: _WAITING,
    State.UNAVAILABLE: {**_DOWN, Event.BROKEN: Step(State.UNAVAILABLE)},
    State.PAUSED: {**_DOWN},
}

UP = frozenset({State.CONNECTING, State.ONLINE})
"""States in which there is an adapter that may be called."""

RETURNING = UP | {State.BACKING_OFF, State.CONFLICT}
"""States in which there is one, or soon may be without anybody's doing."""


class IllegalEvent(Exception):
    """The table has no such cell."""


def step(state: State, event: Event) -> Step:
    """What ``event`` means in ``state``. Raises `IllegalEvent`."""
    try:
        return TABLE[state][event]
    except KeyError:
        raise IllegalEvent(f"a connection that is {state.value} cannot take {event.value!r}") from None


def delay(state: State, tries: int, delays: Sequence[float], *, awaited: bool = False) -> float:
    """Seconds until the next try. ``tries``: how many have failed in a row, from 1. ``awaited``: messages wait for the
    connection, so that the delays do not grow.
    """
    if state is State.REFUSED:
        return REFUSED_DELAY
    if state is State.BACKING_OFF and awaited:
        return delays[0]
    return delays[min(tries, len(delays)) - 1]
