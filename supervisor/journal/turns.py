"""Turns: one run of an agent for one message, from the promise to a worker to its end.

Each step moves the turn's row and the inbox row together. A worker that reconnects says its last words again, so every
step that a worker causes may come twice: the second one changes nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace

from hermesd.adapters.contract import Outbound, Target
from hermesd.ipc.messages import Entry

from . import answers, inbox, outbox, sessions, transcripts
from .errors import IllegalTransition, UnknownRow
from .rows import OutboxRow, TurnRow, turn_row
from .states import INBOX_AFTER_TURN, TURN, TURN_ENDED, InboxState, TurnState, require

INSERT = """
    INSERT INTO turns (turn, session_key, session_id, inbox_id, worker, state, started_at)
    VALUES (?, ?, ?, ?, ?, 'queued', ?)
"""
AGAIN = "UPDATE turns SET state = 'queued', worker = ?, started_at = ?, accepted_at = NULL WHERE turn = ?"
ACCEPTED = "UPDATE turns SET state = 'running', accepted_at = ? WHERE turn = ?"
ENDED = "UPDATE turns SET state = ?, ended_at = ?, error = ?, cpu_seconds = ? WHERE turn = ?"
SHOW = "SELECT * FROM turns WHERE turn = ?"
RECENT = """
    SELECT turns.*, inbox.text FROM turns LEFT JOIN inbox ON inbox.id = turns.inbox_id
    WHERE turns.session_key = ? ORDER BY turns.started_at DESC LIMIT ?
"""
ENDED_OF = "SELECT count(*) FROM turns WHERE session_id = ? AND ended_at IS NOT NULL"


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """What `finish` left: the turn as it is now and the messages that it put into the outbox."""

    turn: TurnRow
    outbox: tuple[OutboxRow, ...]
    repeated: bool  # it had ended before; this call changed nothing


def dispatched(
    connection: sqlite3.Connection,
    turn: str,
    session_key: str,
    session_id: str,
    inbox_id: int | None,
    worker: str,
    now: float,
) -> int:
    """The turn is promised to this worker; committed before the send. Returns which attempt this is, from 1.

    The same ``turn`` again, after `requeued`, is the next attempt of it.
    """
    known = find(connection, turn)
    if known is None:
        connection.execute(INSERT, (turn, session_key, session_id, inbox_id, worker, now))
    else:
        require(TURN, f"turn {turn}", known.state, TurnState.QUEUED)
        connection.execute(AGAIN, (worker, now, turn))
    return 1 if inbox_id is None else inbox.dispatched(connection, inbox_id, turn, worker, now)


def accepted(connection: sqlite3.Connection, turn: str, worker: str, now: float) -> bool:
    """The worker has it; once this is committed and acknowledged, the worker runs the agent.

    False: it had said so before. Raises `IllegalTransition` when the turn belongs to another worker by now, or is over.
    """
    known = show(connection, turn)
    if known.worker != worker:
        raise IllegalTransition(f"cannot let worker {worker} accept turn {turn}: it is promised to {known.worker}")
    if known.state is TurnState.RUNNING:
        return False
    require(TURN, f"turn {turn}", known.state, TurnState.RUNNING)
    connection.execute(ACCEPTED, (now, turn))
    if known.inbox_id is not None:
        inbox.accepted(connection, known.inbox_id, now)
    return True


def requeued(
    connection: sqlite3.Connection, turn: str, now: float, *, error: str = "", killed_worker: bool = False
) -> int:
    """Its worker is gone and it will be repeated: because it was not accepted, or by ``on_crash: retry``.

    Returns how many workers have died of it, this one counted if ``killed_worker``.
    """
    known = show(connection, turn)
    require(TURN, f"turn {turn}", known.state, TurnState.QUEUED)
    connection.execute(AGAIN, ("", now, turn))
    if known.inbox_id is None:
        return int(killed_worker)
    return inbox.queued(connection, known.inbox_id, known.session_key, now, error=error, killed_worker=killed_worker)


def finish(
    connection: sqlite3.Connection,
    turn: str,
    outcome: TurnState,
    now: float,
    *,
    entries: Iterable[Entry] = (),
    outgoing: Iterable[tuple[Target, Outbound]] = (),
    error: str = "",
    cpu_seconds: float = 0.0,
    dead_letter: bool = False,
    dropped: bool = False,
    killed_worker: bool = False,
    tokens: tuple[int, int] = (0, 0),
    used: bool = False,
) -> TurnEnd:
    """The turn is over: its row, the inbox row, the outbox, the transcript and the session's age, all or nothing.

    ``entries`` go to the transcript of the turn's own session, also when that was reset meanwhile. ``dead_letter`` and
    ``dropped`` set the message aside whatever the outcome is. ``tokens``: of its prompts and its answers. ``used``: the
    messages that it was handed are over with it, else they are still to be answered. A turn that had ended stays as it
    is; ``outgoing`` is not added then.
    """
    if outcome not in TURN_ENDED:
        raise ValueError(f"cannot finish a turn as {outcome.value!r}: that is not an end")
    known = show(connection, turn)
    if known.state in TURN_ENDED:
        earlier = (outbox.by_key(connection, message.key) for _, message in outgoing)
        return TurnEnd(known, tuple(row for row in earlier if row is not None), True)
    require(TURN, f"turn {turn}", known.state, outcome)
    connection.execute(ENDED, (outcome.value, now, error, cpu_seconds, turn))
    answers.forget(connection, turn)
    if known.inbox_id is not None:
        state = INBOX_AFTER_TURN[outcome]
        if dead_letter or dropped:
            state = InboxState.DEAD if dead_letter else InboxState.DROPPED
        inbox.finish(connection, known.inbox_id, state, now, error=error, killed_worker=killed_worker)
    inbox.end_handed(connection, turn, known.inbox_id, now, used=used)
    transcripts.append(connection, known.session_id, entries, turn=turn)
    sessions.touch(connection, known.session_id, now)
    if any(tokens):
        sessions.count(connection, known.session_id, *tokens)
    rows = tuple(outbox.add(connection, target, message, now, turn=turn) for target, message in outgoing)
    ended = replace(known, state=outcome, ended_at=now, error=error, cpu_seconds=cpu_seconds)
    return TurnEnd(ended, rows, False)


def show(connection: sqlite3.Connection, turn: str) -> TurnRow:
    """One turn. Raises `UnknownRow`."""
    known = find(connection, turn)
    if known is None:
        raise UnknownRow(f"cannot find turn {turn}")
    return known


def find(connection: sqlite3.Connection, turn: str) -> TurnRow | None:
    """One turn, or None."""
    row = connection.execute(SHOW, (turn,)).fetchone()
    return None if row is None else turn_row(row)


def recent(connection: sqlite3.Connection, session_key: str, limit: int = 20) -> list[TurnRow]:
    """The session's turns with the texts of their messages, newest first."""
    return [replace(turn_row(row), text=row["text"] or "") for row in connection.execute(RECENT, (session_key, limit))]


def count_ended(connection: sqlite3.Connection, session_id: str) -> int:
    """How many turns of this conversation are over, whichever life of hermesd ran them."""
    return int(connection.execute(ENDED_OF, (session_id,)).fetchone()[0])
