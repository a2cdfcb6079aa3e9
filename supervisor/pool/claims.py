"""What a worker may speak of: its own session, and turns that it was given. Pure.

ZeroMQ delivers whatever a process puts on the wire, and an agent can put anything there. A worker that speaks for
another session is not what was started, and is ended for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from hermesd.ipc.messages import Heartbeat, Message, Snapshot

REMEMBERED = 32
"""Turns of a worker that it may still speak of; what is late is about one of the last."""


def false_claim(message: Message, *, session: str, given: Collection[str], others: Collection[str] | None) -> str:
    """Why this message is not for this worker to say; "" when it is.

    ``given``: turns that this worker was given. ``others``: None, or, for a worker of an earlier hermesd, of which not
    every turn is known, the turns that others were given: what is neither's is believed to be its own and over.
    """
    if isinstance(message, Snapshot) and message.session_key not in ("", session):
        return f"its snapshot is of session {message.session_key!a:.200}"
    for turn in _turns_of(message):
        if turn not in given and (others is None or turn in others):
            return f"its {message.KIND} is about turn {turn!a:.60}, which it was not given"
    return ""


def _turns_of(message: Message) -> Iterator[str]:
    turn = getattr(message, "turn", None)
    if turn is None:
        return
    # Between turns it speaks of none; everything but these two is about one.
    if turn or not isinstance(message, Heartbeat | Snapshot):
        yield turn
    if isinstance(message, Snapshot):
        yield from (ask.turn for ask in message.asks)
