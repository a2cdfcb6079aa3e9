"""The life of a session's worker, as a table. Pure.

Nothing outside this file changes a `State`. `step` looks one cell up and answers with the next state and the `Action`s
that the shell (`supervisor/gateway/lanes.py`) performs; a missing cell is the error. Every state has a way out by
itself: each either holds a live process (whose end is an event) or a timer.

A session without a process is *hibernated*, *in backoff* or *quarantined*; its conversation is on disk in all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The words that ``hermesctl ps`` shows."""

    HIBERNATED = "hibernated"  # no process; the next message starts one
    STARTING = "starting"  # a process was asked for and has not said that its agent is ready
    IDLE = "idle"
    BUSY = "busy"  # a turn runs
    WAITING = "waiting"  # a turn runs and waits for its user's choice
    DRAINING = "draining"  # ends after the running turn
    STOPPING = "stopping"  # told to end, or being killed
    BACKOFF = "backoff"  # crashed; a timer lets the next start happen
    QUARANTINED = "quarantined"  # crashed too often; a longer timer, or a person


class Event(StrEnum):
    """What happens to a worker."""

    WANTED = "wanted"  # a turn has a slot and needs a worker
    ADOPTED = "adopted"  # an earlier hermesd has left a process that serves it
    READY = "ready"  # hello, session and agent are in place
    START_TIMED_OUT = "start_timed_out"
    HUNG = "hung"  # neither a sign of life nor CPU time for too long; its death will be a crash if a turn runs
    TURN_STARTED = "turn_started"
    ASKED = "asked"
    ANSWERED = "answered"
    TURN_ENDED = "turn_ended"
    HIBERNATE = "hibernate"  # idle for too long, or its place is needed
    RETIRE = "retire"  # end after the running turn
    STOP = "stop"  # end now, politely
    KILL = "kill"  # end now
    CRASHED = "crashed"  # the process is gone, unasked
    CRASHED_OFTEN = "crashed_often"  # the same, and the crash window is full
    ENDED = "ended"  # the process is gone, as asked
    TIMER = "timer"  # the state's own timer ran out
    PARDON = "pardon"  # a person said: try again


class Action(StrEnum):
    """What the shell does about it."""

    START = "start"
    POLITE_STOP = "polite_stop"  # ask the worker to end; arms the timer after which it is killed
    KILL = "kill"
    OFFER = "offer"  # the worker can take a turn
    ARM_BACKOFF = "arm_backoff"
    ARM_QUARANTINE = "arm_quarantine"
    TELL_QUARANTINE = "tell_quarantine"
    FORGET_CRASHES = "forget_crashes"


@dataclass(frozen=True, slots=True)
class Step:
    """One cell of the table."""

    state: State
    actions: tuple[Action, ...] = ()


_CRASH = {
    Event.CRASHED: Step(State.BACKOFF, (Action.ARM_BACKOFF,)),
    Event.CRASHED_OFTEN: Step(State.QUARANTINED, (Action.ARM_QUARANTINE, Action.TELL_QUARANTINE)),
}
_END_NOW = {
    Event.STOP: Step(State.STOPPING, (Action.POLITE_STOP,)),
    Event.KILL: Step(State.STOPPING, (Action.KILL,)),
}

TABLE: dict[State, dict[Event, Step]] = {
    State.HIBERNATED: {
        Event.WANTED: Step(State.STARTING, (Action.START,)),
        Event.ADOPTED: Step(State.IDLE),
        Event.HIBERNATE: Step(State.HIBERNATED),
        Event.RETIRE: Step(State.HIBERNATED),
        Event.STOP: Step(State.HIBERNATED),
        Event.KILL: Step(State.HIBERNATED),
        Event.PARDON: Step(State.HIBERNATED, (Action.FORGET_CRASHES,)),
    },
    State.STARTING: {
        **_CRASH,
        **_END_NOW,
        Event.HUNG: Step(State.STARTING, (Action.KILL,)),
        Event.WANTED: Step(State.STARTING),
        Event.READY: Step(State.IDLE, (Action.OFFER,)),
        Event.START_TIMED_OUT: Step(State.STARTING, (Action.KILL,)),
        Event.RETIRE: Step(State.STOPPING, (Action.POLITE_STOP,)),
        Event.PARDON: Step(State.STARTING, (Action.FORGET_CRASHES,)),
    },
    State.IDLE: {
        **_CRASH,
        **_END_NOW,
        Event.HUNG: Step(State.STOPPING, (Action.KILL,)),
        Event.WANTED: Step(State.IDLE, (Action.OFFER,)),
        Event.TURN_STARTED: Step(State.BUSY),
        Event.HIBERNATE: Step(State.STOPPING, (Action.POLITE_STOP,)),
        Event.RETIRE: Step(State.STOPPING, (Action.POLITE_STOP,)),
        Event.PARDON: Step(State.IDLE, (Action.FORGET_CRASHES,)),
    },
    State.BUSY: {
        **_CRASH,
        **_END_NOW,
        Event.HUNG: Step(State.BUSY, (Action.KILL,)),
        Event.ASKED: Step(State.WAITING),
        Event.TURN_ENDED: Step(State.IDLE, (Action.OFFER,)),
        Event.RETIRE: Step(State.DRAINING),
        Event.PARDON: Step(State.BUSY, (Action.FORGET_CRASHES,)),
    },
    State.WAITING: {
        **_CRASH,
        **_END_NOW,
        Event.HUNG: Step(State.WAITING, (Action.KILL,)),
        Event.ASKED: Step(State.WAITING),
        Event.ANSWERED: Step(State.BUSY),
        Event.TURN_ENDED: Step(State.IDLE, (Action.OFFER,)),
        Event.RETIRE: Step(State.DRAINING),
        Event.PARDON: Step(State.WAITING, (Action.FORGET_CRASHES,)),
    },
    State.DRAINING: {
        **_CRASH,
        **_END_NOW,
        Event.HUNG: Step(State.DRAINING, (Action.KILL,)),
        Event.WANTED: Step(State.DRAINING),
        Event.ASKED: Step(State.DRAINING),
        Event.ANSWERED: Step(State.DRAINING),
        Event.TURN_ENDED: Step(State.STOPPING, (Action.POLITE_STOP,)),
        Event.RETIRE: Step(State.DRAINING),
        Event.PARDON: Step(State.DRAINING, (Action.FORGET_CRASHES,)),
    },
    State.STOPPING: {
        Event.WANTED: Step(State.STOPPING),
        Event.READY: Step(State.STOPPING),
        Event.ASKED: Step(State.STOPPING),
        Event.ANSWERED: Step(State.STOPPING),
        Event.TURN_ENDED: Step(State.STOPPING),
        Event.HIBERNATE: Step(State.STOPPING),
        Event.RETIRE: Step(State.STOPPING),
        Event.STOP: Step(State.STOPPING),
        Event.START_TIMED_OUT: Step(State.STOPPING),
        Event.HUNG: Step(State.STOPPING, (Action.KILL,)),
        Event.TIMER: Step(State.STOPPING, (Action.KILL,)),
        Event.KILL: Step(State.STOPPING, (Action.KILL,)),
        Event.ENDED: Step(State.HIBERNATED, (Action.OFFER,)),
        Event.PARDON: Step(State.STOPPING, (Action.FORGET_CRASHES,)),
    },
    State.BACKOFF: {
        Event.WANTED: Step(State.BACKOFF),
        Event.HIBERNATE: Step(State.BACKOFF),
        Event.RETIRE: Step(State.BACKOFF),
        Event.STOP: Step(State.BACKOFF),
        Event.KILL: Step(State.BACKOFF),
        Event.TIMER: Step(State.HIBERNATED, (Action.OFFER,)),
        Event.PARDON: Step(State.HIBERNATED, (Action.FORGET_CRASHES, Action.OFFER)),
    },
    State.QUARANTINED: {
        Event.HIBERNATE: Step(State.QUARANTINED),
        Event.RETIRE: Step(State.QUARANTINED),
        Event.STOP: Step(State.QUARANTINED),
        Event.KILL: Step(State.QUARANTINED),
        Event.TIMER: Step(State.HIBERNATED, (Action.FORGET_CRASHES, Action.OFFER)),
        Event.PARDON: Step(State.HIBERNATED, (Action.FORGET_CRASHES, Action.OFFER)),
    },
}

WITH_PROCESS = frozenset({State.STARTING, State.IDLE, State.BUSY, State.WAITING, State.DRAINING, State.STOPPING})
"""States in which a process exists or is being made; they count against ``workers.max``."""


class IllegalTransition(Exception):
    """The table has no cell for this event in this state: a bug of the shell."""


def step(state: State, event: Event) -> Step:
    """Look one cell up. Raises `IllegalTransition` where there is none."""
    try:
        return TABLE[state][event]
    except KeyError:
        raise IllegalTransition(f"a worker that is {state} cannot take {event}") from None
