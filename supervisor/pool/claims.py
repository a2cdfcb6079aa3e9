"""What a worker may speak of: its own session, and turns that it was given. Pure.

ZeroMQ delivers whatever a process puts on the wire, and an agent can put anything there. A worker that speaks for
another session is not what was started, and is ended for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from hermesd.ipc.messages import Heartbeat, Message, Snapshot

REMEMBERED = 32
"""Turns of a worker that it may still speak of; what is late is about one of the last."""


def false_claim(
    message: Message, *, session: str, given: Collection[str], is_anothers: Callable[[str], bool] | None
) -> str:
    """Why this message is not for this worker to say; "" when it is.

    ``given``: turns that this worker was given. ``is_anothers``: None, or, for a worker of an earlier hermesd, of which
    not every turn is known, whether a turn was given to another: what is neither's is believed to be its own and over.
    """
    turn = getattr(message, "turn", None)
    if turn is None:
        return ""
    if isinstance(message, Snapshot):
        if message.session_key not in ("", session):
            return f"its snapshot is of session {message.session_key!a:.200}"
        turns = (turn, *(ask.turn for ask in message.asks)) if turn else tuple(ask.turn for ask in message.asks)
    elif turn in given or (not turn and isinstance(message, Heartbeat)):  # between turns a heartbeat names none
        return ""
    else:
        turns = (turn,)
    for named in turns:
        if named not in given and (is_anothers is None or is_anothers(named)):
            return f"its {message.KIND} is about turn {named!a:.60}, which it was not given"
    return ""
