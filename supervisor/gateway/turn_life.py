"""The life of one turn, as a table. Pure.

A turn is one message on its way through an agent. It ends in exactly one of five words, each of which its user is told.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """The words of ``hermesctl`` and of the journal."""

    QUEUED = "queued"  # waits for a slot, its session's running turn or a worker
    DISPATCHED = "dispatched"  # sent to a worker, which has not said that it has it
    RUNNING = "running"  # accepted by the worker, and that is on disk
    WAITING = "waiting"  # running, waits for its user's choice
    DONE = "done"
    FAILED = "failed"  # the agent raised; worker and MCP servers are kept
    INTERRUPTED = "interrupted"
    LOST = "lost"  # its worker died after it had accepted
    DEAD = "dead"  # set aside: it killed as many workers as it may


class Event(StrEnum):
    DISPATCH = "dispatch"
    ACCEPTED = "accepted"
    ASKED = "asked"
    ANSWERED = "answered"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"  # taken back before a worker had it
    WORKER_GONE = "worker_gone"  # and the turn may be repeated
    WORKER_LOST = "worker_lost"  # and it may not, for the agent had started
    POISONOUS = "poisonous"  # and it is not the first worker that this message took along


ENDED = frozenset({State.DONE, State.FAILED, State.INTERRUPTED, State.LOST, State.DEAD})

_ENDS = {
    Event.FINISHED: State.DONE,
    Event.FAILED: State.FAILED,
    Event.INTERRUPTED: State.INTERRUPTED,
    Event.WORKER_GONE: State.QUEUED,
    Event.WORKER_LOST: State.LOST,
    Event.POISONOUS: State.DEAD,
}

TABLE: dict[State, dict[Event, State]] = {
    State.QUEUED: {
        Event.DISPATCH: State.DISPATCHED,
        Event.CANCELLED: State.INTERRUPTED,
        Event.FAILED: State.FAILED,
    },
    State.DISPATCHED: {
        **_ENDS,
        Event.ACCEPTED: State.RUNNING,
    },
    State.RUNNING: {
        **_ENDS,
        Event.ASKED: State.WAITING,
    },
    State.WAITING: {
        **_ENDS,
        Event.ASKED: State.WAITING,
        Event.ANSWERED: State.RUNNING,
    },
    State.DONE: {},
    State.FAILED: {},
    State.INTERRUPTED: {},
    State.LOST: {},
    State.DEAD: {},
}


class IllegalTransition(Exception):
    """The table has no cell for this event in this state: a bug of the shell."""


def step(state: State, event: Event) -> State:
    """Look one cell up. Raises `IllegalTransition` where there is none."""
    try:
        return TABLE[state][event]
    except KeyError:
        raise IllegalTransition(f"a turn that is {state} cannot take {event}") from None


def after_death(*, accepted: bool, interrupted: bool, killed: int, on_crash: str) -> Event:
    """What the death of its worker means for a turn.

    ``killed`` counts the workers that died while they had this message, this one included; two make it poisonous. A
    turn whose agent had not started is repeated. One that had is repeated only under ``on_crash: retry``: its tools may
    have had effects already. One that was being interrupted has got what it was asked for.
    """
    if interrupted:
        return Event.INTERRUPTED
    if killed >= 2:
        return Event.POISONOUS
    if accepted and on_crash != "retry":
        return Event.WORKER_LOST
    return Event.WORKER_GONE
