"""Messages to chats: each is a row before it is sent, and one that was cut in mid-call is never repeated blindly."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from hermesd.adapters.contract import Outbound, Target

from .errors import IllegalTransition, UnknownRow
from .rows import UNCERTAIN, OutboxRow, dump, dump_attachments, outbox_row
from .states import OUTBOX, OutboxState, require, sql_list

INSERT = """
    INSERT INTO outbox (key, turn, platform, chat_id, thread_id, reply_to, kind, text, files_json, usage_json, final,
                        created_at, state, changed_at, next_try_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?)
    ON CONFLICT (key) DO NOTHING
"""
PROGRESS = "SELECT state, attempts FROM outbox WHERE id = ?"
PENDING = "UPDATE outbox SET state = 'pending', changed_at = ?, next_try_at = ?, error = ? WHERE id = ?"
SENDING = "UPDATE outbox SET state = 'sending', changed_at = ?, attempts = ? WHERE id = ?"
SENT = "UPDATE outbox SET state = 'sent', changed_at = ?, platform_message_id = ?, error = '' WHERE id = ?"
STOPPED = "UPDATE outbox SET state = ?, changed_at = ?, error = ? WHERE id = ?"
WAITS = "UPDATE outbox SET state = 'waiting', changed_at = ?, error = ? WHERE id = ?"
BEYOND = """
    SELECT beyond.id FROM outbox AS row JOIN outbox AS beyond USING (platform, chat_id, thread_id)
    WHERE row.id = ? AND beyond.state = 'waiting' ORDER BY beyond.id DESC LIMIT -1 OFFSET ?
"""
OF_LANE = "SELECT id FROM outbox WHERE state = 'waiting' AND platform = ? AND chat_id = ? AND thread_id = ? ORDER BY id"
ATTENDED = "UPDATE outbox SET state = 'pending', changed_at = ?, next_try_at = ? WHERE id = ?"
PLACEHOLDER = "UPDATE outbox SET platform_message_id = ? WHERE id = ?"
SHOW = "SELECT * FROM outbox WHERE id = ?"
BY_KEY = "SELECT * FROM outbox WHERE key = ?"
BY_STATE = "SELECT * FROM outbox WHERE state = ? ORDER BY id LIMIT ?"
# The session of one that belongs to no turn is that of the message which it answers.
LISTED = """
    SELECT outbox.*, COALESCE(turns.session_key, inbox.session_key, '') AS session_key
    FROM outbox
    LEFT JOIN turns ON turns.turn = outbox.turn
    LEFT JOIN inbox ON inbox.platform = outbox.platform AND inbox.chat_id = outbox.chat_id
                   AND inbox.message_id = outbox.reply_to
    WHERE {} AND (:session = '' OR COALESCE(turns.session_key, inbox.session_key, '') = :session)
    ORDER BY outbox.id DESC LIMIT :limit
"""
# The head of each lane: nothing older of the same chat and thread still waits or is being sent.
DUE = """
    SELECT head.*
    FROM outbox AS head
    WHERE head.state = 'pending'
      AND (:platform IS NULL OR head.platform = :platform)
      AND NOT EXISTS (
          SELECT 1 FROM outbox AS older
          WHERE older.state IN ('pending', 'sending')
            AND older.platform = head.platform AND older.chat_id = head.chat_id
            AND older.thread_id = head.thread_id AND older.id < head.id
      )
      AND head.next_try_at <= :now
    ORDER BY head.id LIMIT :limit
"""


def add(connection: sqlite3.Connection, target: Target, message: Outbound, now: float, *, turn: str = "") -> OutboxRow:
    """Put a message in. One with a known key is the same message: its row is returned as it is, nothing is added."""
    cursor = connection.execute(
        INSERT,
        (
            message.key,
            turn,
            target.platform,
            target.chat_id,
            target.thread_id,
            target.reply_to,
            message.kind,
            message.text,
            dump_attachments(message.files),
            dump(message.usage),
            message.final,
            now,
            now,
            now,
        ),
    )
    if cursor.rowcount == 0:
        return outbox_row(connection.execute(BY_KEY, (message.key,)).fetchone())
    assert cursor.lastrowid is not None
    return OutboxRow(cursor.lastrowid, target, message, turn, now, OutboxState.PENDING, now, 0, now)


def due(
    connection: sqlite3.Connection, now: float, limit: int = 100, *, platform: str | None = None
) -> list[OutboxRow]:
    """What may be sent now, oldest first, at most one per lane (platform, chat, thread), so order in a chat is kept.

    A platform that is offline would fill the ``limit`` with rows that cannot go: ask for each ``platform`` alone.
    """
    rows = connection.execute(DUE, {"now": now, "limit": limit, "platform": platform})
    return [outbox_row(row) for row in rows]


def sending(connection: sqlite3.Connection, outbox_id: int, now: float) -> int:
    """The platform is about to be called; committed before the call. Returns which attempt this is, from 1."""
    attempt = _step(connection, outbox_id, OutboxState.SENDING) + 1
    connection.execute(SENDING, (now, attempt, outbox_id))
    return attempt


def placeholder(connection: sqlite3.Connection, outbox_id: int, platform_message_id: str) -> None:
    """Keep the id of a message that is there already and that the final text will replace by an edit."""
    if connection.execute(PLACEHOLDER, (platform_message_id, outbox_id)).rowcount == 0:
        raise UnknownRow(f"cannot keep the placeholder of outbox row {outbox_id}: there is no such row")


def sent(connection: sqlite3.Connection, outbox_id: int, platform_message_id: str, now: float) -> None:
    """The platform has it, under this id."""
    _step(connection, outbox_id, OutboxState.SENT)
    connection.execute(SENT, (now, platform_message_id, outbox_id))


def postponed(connection: sqlite3.Connection, outbox_id: int, next_try_at: float, error: str, now: float) -> None:
    """Not now: `due` again from ``next_try_at`` on. ``error`` `UNCERTAIN` makes the next try a marked one."""
    _step(connection, outbox_id, OutboxState.PENDING)
    connection.execute(PENDING, (now, next_try_at, error, outbox_id))


def waits(connection: sqlite3.Connection, outbox_id: int, error: str, now: float, *, most: int) -> None:
    """Nobody looks at its chat: kept until `attended`. Of one chat ``most`` are; the oldest beyond are dropped."""
    _step(connection, outbox_id, OutboxState.WAITING)
    connection.execute(WAITS, (now, error, outbox_id))
    for row in connection.execute(BEYOND, (outbox_id, most)).fetchall():
        dropped(connection, row["id"], f"more than {most} messages waited for somebody to look at this chat", now)


def attended(
    connection: sqlite3.Connection, platform: str, chat_id: str, thread_id: str, now: float
) -> list[OutboxRow]:
    """Somebody looks at this chat: what waited for that is pending again. Returns it, oldest first."""
    ids = [row["id"] for row in connection.execute(OF_LANE, (platform, chat_id, thread_id))]
    for outbox_id in ids:
        _step(connection, outbox_id, OutboxState.PENDING)
        connection.execute(ATTENDED, (now, now, outbox_id))
    return [show(connection, outbox_id) for outbox_id in ids]


def failed(connection: sqlite3.Connection, outbox_id: int, error: str, now: float) -> None:
    """The platform will never take it, or its chat is gone."""
    _step(connection, outbox_id, OutboxState.FAILED)
    connection.execute(STOPPED, (OutboxState.FAILED.value, now, error, outbox_id))


def ambiguous(connection: sqlite3.Connection, outbox_id: int, error: str, now: float) -> None:
    """The call was cut: the platform may have it or not."""
    _step(connection, outbox_id, OutboxState.AMBIGUOUS)
    connection.execute(STOPPED, (OutboxState.AMBIGUOUS.value, now, error, outbox_id))


def retried(connection: sqlite3.Connection, outbox_id: int, now: float) -> OutboxRow:
    """An operator has a failed or ambiguous one sent again; returns it. What the platform may have keeps its mark."""
    known = show(connection, outbox_id)
    if known.state in (OutboxState.SENDING, OutboxState.WAITING):  # the table's step back is the deliverer's own
        raise IllegalTransition(f"cannot make outbox row {outbox_id} 'pending': it is {known.state.value!r}")
    uncertain = known.uncertain or known.state is OutboxState.AMBIGUOUS
    postponed(connection, outbox_id, now, UNCERTAIN if uncertain else "", now)
    return show(connection, outbox_id)


def dropped(connection: sqlite3.Connection, outbox_id: int, error: str, now: float) -> None:
    """Given up: it will not be sent again."""
    _step(connection, outbox_id, OutboxState.DROPPED)
    connection.execute(STOPPED, (OutboxState.DROPPED.value, now, error, outbox_id))


def recover(connection: sqlite3.Connection, now: float) -> list[OutboxRow]:
    """What an earlier life was sending when it ended is ambiguous now. Called once, at start.

    Returns every ambiguous row, oldest first, for the platform to decide on.
    """
    for row in connection.execute(BY_STATE, (OutboxState.SENDING.value, -1)).fetchall():
        ambiguous(connection, row["id"], "hermesd ended while it was being sent", now)
    return by_state(connection, OutboxState.AMBIGUOUS, -1)


def show(connection: sqlite3.Connection, outbox_id: int) -> OutboxRow:
    """One row. Raises `UnknownRow`."""
    row = connection.execute(SHOW, (outbox_id,)).fetchone()
    if row is None:
        raise UnknownRow(f"cannot find outbox row {outbox_id}")
    return outbox_row(row)


def by_key(connection: sqlite3.Connection, key: str) -> OutboxRow | None:
    """The row of `Outbound.key`."""
    row = connection.execute(BY_KEY, (key,)).fetchone()
    return None if row is None else outbox_row(row)


def listed(
    connection: sqlite3.Connection, states: Collection[OutboxState] = (), session_key: str = "", limit: int = 100
) -> list[tuple[OutboxRow, str]]:
    """The newest rows first, each with the key of its session; ``states`` empty and ``session_key`` "" mean all."""
    query = LISTED.format(f"outbox.state IN {sql_list(tuple(states))}" if states else "TRUE")
    rows = connection.execute(query, {"session": session_key, "limit": limit})
    return [(outbox_row(row), row["session_key"]) for row in rows]


def session_of(connection: sqlite3.Connection, outbox_id: int) -> str:
    """The key of the session that a row belongs to; "" where nobody knows one."""
    query = LISTED.format("outbox.id = :id")
    row = connection.execute(query, {"id": outbox_id, "session": "", "limit": 1}).fetchone()
    return "" if row is None else str(row["session_key"])


def by_state(connection: sqlite3.Connection, state: OutboxState, limit: int = 100) -> list[OutboxRow]:
    """Rows in one state, oldest first; ``limit`` -1 for all."""
    return [outbox_row(row) for row in connection.execute(BY_STATE, (state.value, limit))]


def _step(connection: sqlite3.Connection, outbox_id: int, then: OutboxState) -> int:
    """Check the step; returns the attempts so far."""
    progress = connection.execute(PROGRESS, (outbox_id,)).fetchone()
    if progress is None:
        raise UnknownRow(f"cannot make outbox row {outbox_id} {then.value!r}: there is no such row")
    require(OUTBOX, f"outbox row {outbox_id}", OutboxState(progress["state"]), then)
    return int(progress["attempts"])
