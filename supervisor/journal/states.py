"""The lives of an inbox row, a turn and an outbox row. A step that is not in its table is refused."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from .errors import IllegalTransition


class InboxState(StrEnum):
    """How far a message of a user has come."""

    RECEIVED = "received"  # on disk; access and session are not decided yet, or a running turn has taken it
    QUEUED = "queued"  # has a session, waits for its worker
    DISPATCHED = "dispatched"  # promised to a worker, before the send
    ACCEPTED = "accepted"  # the worker has it and may run the agent: from here on tools may have acted
    ANSWERED = "answered"
    REFUSED = "refused"  # the access gate said no
    FAILED = "failed"  # the agent raised; the chat was told
    LOST = "lost"  # the worker died while its agent ran; not repeated by itself, /retry does
    DEAD = "dead"  # dead letter: it killed too many workers
    DROPPED = "dropped"  # taken back before an agent saw it (/stop, the caller hung up), or by an operator


class TurnState(StrEnum):
    """How far one run of an agent has come."""

    QUEUED = "queued"  # dispatched, not accepted
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LOST = "lost"


class OutboxState(StrEnum):
    """How far one message to a chat has come."""

    PENDING = "pending"
    SENDING = "sending"  # the platform is being called
    SENT = "sent"
    WAITING = "waiting"  # nobody looks at its chat just now
    FAILED = "failed"  # the platform will never take it
    AMBIGUOUS = "ambiguous"  # cut in mid-call: the platform may have it
    DROPPED = "dropped"  # given up: by an operator, or because nobody came to look


INBOX: Mapping[InboxState, frozenset[InboxState]] = {
    # received -> answered: a slash command, which no worker sees
    InboxState.RECEIVED: frozenset(
        {InboxState.QUEUED, InboxState.ANSWERED, InboxState.REFUSED, InboxState.FAILED, InboxState.DROPPED}
    ),
    InboxState.QUEUED: frozenset(
        {
            InboxState.DISPATCHED,
            InboxState.ANSWERED,
            InboxState.REFUSED,
            InboxState.FAILED,
            InboxState.DEAD,
            InboxState.DROPPED,
        }
    ),
    # dispatched -> queued: the worker died before it accepted, so no agent ran
    InboxState.DISPATCHED: frozenset(
        {
            InboxState.QUEUED,
            InboxState.ACCEPTED,
            InboxState.ANSWERED,
            InboxState.FAILED,
            InboxState.DEAD,
            InboxState.DROPPED,
        }
    ),
    # accepted -> queued: ``on_crash: retry``
    InboxState.ACCEPTED: frozenset(
        {InboxState.QUEUED, InboxState.ANSWERED, InboxState.FAILED, InboxState.LOST, InboxState.DEAD}
    ),
    InboxState.ANSWERED: frozenset(),
    # back to queued: an operator has it tried afresh; a chat's /retry is a message of its own
    InboxState.FAILED: frozenset({InboxState.QUEUED}),
    InboxState.LOST: frozenset({InboxState.QUEUED}),
    InboxState.DEAD: frozenset({InboxState.QUEUED, InboxState.DROPPED}),
    InboxState.REFUSED: frozenset(),
    InboxState.DROPPED: frozenset({InboxState.QUEUED}),
}

TURN: Mapping[TurnState, frozenset[TurnState]] = {
    # queued -> queued: promised to another worker, the first one died before it accepted
    TurnState.QUEUED: frozenset({TurnState.QUEUED, TurnState.RUNNING, TurnState.FAILED, TurnState.INTERRUPTED}),
    TurnState.RUNNING: frozenset(
        {TurnState.QUEUED, TurnState.DONE, TurnState.FAILED, TurnState.INTERRUPTED, TurnState.LOST}
    ),
    TurnState.DONE: frozenset(),
    TurnState.FAILED: frozenset(),
    TurnState.INTERRUPTED: frozenset(),
    TurnState.LOST: frozenset(),
}

OUTBOX: Mapping[OutboxState, frozenset[OutboxState]] = {
    OutboxState.PENDING: frozenset({OutboxState.SENDING, OutboxState.FAILED, OutboxState.DROPPED}),
    OutboxState.SENDING: frozenset(
        {OutboxState.PENDING, OutboxState.SENT, OutboxState.WAITING, OutboxState.FAILED, OutboxState.AMBIGUOUS}
    ),
    OutboxState.WAITING: frozenset({OutboxState.PENDING, OutboxState.DROPPED}),
    # A platform with idempotent sends repeats it; one that can be asked finds it; else it goes again with a mark.
    OutboxState.AMBIGUOUS: frozenset({OutboxState.PENDING, OutboxState.SENT, OutboxState.FAILED, OutboxState.DROPPED}),
    OutboxState.FAILED: frozenset({OutboxState.PENDING, OutboxState.DROPPED}),
    OutboxState.SENT: frozenset(),
    OutboxState.DROPPED: frozenset(),
}

INBOX_OPEN = (InboxState.RECEIVED, InboxState.QUEUED, InboxState.DISPATCHED, InboxState.ACCEPTED)
INBOX_ENDED = tuple(state for state in InboxState if state not in INBOX_OPEN)
TURN_ENDED = (TurnState.DONE, TurnState.FAILED, TurnState.INTERRUPTED, TurnState.LOST)
OUTBOX_ON_ITS_WAY = (OutboxState.PENDING, OutboxState.SENDING, OutboxState.AMBIGUOUS)
OUTBOX_OPEN = (*OUTBOX_ON_ITS_WAY, OutboxState.WAITING)
OUTBOX_ENDED = (OutboxState.SENT, OutboxState.FAILED, OutboxState.DROPPED)

INBOX_AFTER_TURN: Mapping[TurnState, InboxState] = {
    TurnState.DONE: InboxState.ANSWERED,
    TurnState.INTERRUPTED: InboxState.ANSWERED,  # by its user, who was told
    TurnState.FAILED: InboxState.FAILED,
    TurnState.LOST: InboxState.LOST,
}

_State = TypeVar("_State", InboxState, TurnState, OutboxState)


def require(table: Mapping[_State, frozenset[_State]], what: str, now: _State, then: _State) -> None:
    """Raise `IllegalTransition` unless ``table`` has the step; ``what`` names the row, for the message."""
    if then not in table[now]:
        raise IllegalTransition(f"cannot make {what} {then.value!r}: it is {now.value!r}")


def sql_list(states: tuple[_State, ...]) -> str:
    """``('queued', 'accepted')``, for SQL constants built at import."""
    return "(" + ", ".join(f"'{state.value}'" for state in states) + ")"
