"""Messages to chats: each is a row before it is sent, and one that was cut in mid-call is never repeated blindly.

A message is one row until its platform is there to take it. Then it becomes the rows of its parts, which stand in its
place in the order of its chat.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hermesd.adapters.contract import Outbound, Target

from .errors import IllegalTransition, UnknownRow
from .rows import BEGUN, OutboxRow, dump, dump_attachments, dump_question, outbox_row
from .states import OUTBOX, OutboxState, require, sql_list

INSERT = """
    INSERT INTO outbox (key, turn, platform, chat_id, thread_id, reply_to, kind, text, files_json, usage_json, final,
                        question_json, quotes, album, created_at, state, changed_at, next_try_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?)
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
DOUBT = "UPDATE outbox SET error = ? WHERE id = ?"
PLACEHOLDER = "UPDATE outbox SET platform_message_id = ? WHERE id = ?"
SHOW = "SELECT * FROM outbox WHERE id = ?"
BY_KEY = "SELECT * FROM outbox WHERE key = ?"
BY_STATE = "SELECT * FROM outbox WHERE state = ? ORDER BY CASE part_of WHEN 0 THEN id ELSE part_of END, id LIMIT ?"
PARTS = "SELECT * FROM outbox WHERE id = :first OR (part_of = :first AND part_of <> 0 AND part_of <> id) ORDER BY id"
BECOME_FIRST = """
    UPDATE outbox SET text = ?, files_json = ?, usage_json = ?, final = ?, question_json = ?, quotes = ?, album = ?,
                      platform_message_id = ?, part_of = id
    WHERE id = ?
"""
APART = "UPDATE outbox SET album = '' WHERE id = ?"
BECOME_PART = "UPDATE outbox SET part_of = ?, platform_message_id = ?, created_at = ? WHERE id = ?"
OPEN_QUESTIONS = "SELECT * FROM outbox WHERE question_json <> '' AND turn = ? ORDER BY id"
LEFT_QUESTIONS = """
    SELECT outbox.* FROM outbox JOIN turns ON turns.turn = outbox.turn
    WHERE question_json <> '' AND turns.ended_at IS NOT NULL ORDER BY outbox.id
"""
OTHERS = """
    SELECT platform_message_id FROM (
        SELECT platform_message_id FROM outbox
        WHERE platform = :platform AND chat_id = :chat AND id <> :id AND platform_message_id <> ''
        ORDER BY id DESC LIMIT :limit
    )
    UNION SELECT message_id FROM progress WHERE platform = :platform AND chat_id = :chat
"""
OTHERS_LIMIT = 1000
SETTLED = "UPDATE outbox SET question_json = '' WHERE id = ?"
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
            AND older.thread_id = head.thread_id AND older.id <> head.id
            AND (CASE older.part_of WHEN 0 THEN older.id ELSE older.part_of END, older.id)
                < (CASE head.part_of WHEN 0 THEN head.id ELSE head.part_of END, head.id)
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
            dump_question(message.question),
            message.quotes,
            message.album,
            now,
            now,
            now,
        ),
    )
    if cursor.rowcount == 0:
        return outbox_row(connection.execute(BY_KEY, (message.key,)).fetchone())
    assert cursor.lastrowid is not None
    return OutboxRow(cursor.lastrowid, target, message, turn, now, OutboxState.PENDING, now, 0, now)


def cut(
    connection: sqlite3.Connection, outbox_id: int, parts: Sequence[tuple[Outbound, str]], now: float
) -> list[OutboxRow]:
    """Make a message that waits the rows of its parts, each with the id of the message that it is to replace, or "".

    The first keeps the row. One that was cut before stays as it is. Returns all of them. Raises `UnknownRow`, and
    `IllegalTransition` for one that does not wait any more.
    """
    known = show(connection, outbox_id)
    if known.part_of:
        return parts_of(connection, known.part_of)
    if known.state is not OutboxState.PENDING:
        raise IllegalTransition(f"cannot cut outbox row {outbox_id} into parts: it is {known.state.value!r}")
    (first, edits), *others = parts
    connection.execute(
        BECOME_FIRST,
        (
            first.text,
            dump_attachments(first.files),
            dump(first.usage),
            first.final,
            dump_question(first.question),
            first.quotes,
            first.album,
            edits,
            outbox_id,
        ),
    )
    rows = [replace(known, message=first, platform_message_id=edits, part_of=outbox_id)]
    for message, edits in others:
        part = add(connection, known.target, message, now, turn=known.turn)
        connection.execute(BECOME_PART, (outbox_id, edits, known.created_at, part.id))
        rows.append(replace(part, platform_message_id=edits, part_of=outbox_id, created_at=known.created_at))
    return rows


def parts_of(connection: sqlite3.Connection, first: int) -> list[OutboxRow]:
    """The rows of one message, by that of its first part."""
    return [outbox_row(row) for row in connection.execute(PARTS, {"first": first})]


def open_questions(connection: sqlite3.Connection, turn: str) -> list[OutboxRow]:
    """The questions of a turn that have not been `settled`, sent or not."""
    return [outbox_row(row) for row in connection.execute(OPEN_QUESTIONS, (turn,))]


def left_questions(connection: sqlite3.Connection) -> list[OutboxRow]:
    """Those of turns that are over."""
    return [outbox_row(row) for row in connection.execute(LEFT_QUESTIONS)]


def settled(connection: sqlite3.Connection, outbox_id: int) -> None:
    """Nobody is asked by this message any more."""
    connection.execute(SETTLED, (outbox_id,))


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


def sending_together(connection: sqlite3.Connection, outbox_ids: Iterable[int], now: float) -> list[int]:
    """`sending` for those of an album that wait still; returns which."""
    found = [outbox_id for outbox_id in outbox_ids if show(connection, outbox_id).state is OutboxState.PENDING]
    for outbox_id in found:
        sending(connection, outbox_id, now)
    return found


def together(connection: sqlite3.Connection, step: Callable[..., None], outbox_ids: Iterable[int], *args: Any) -> None:
    """The same step for each row of an album, or for none of them."""
    for outbox_id in outbox_ids:
        step(connection, outbox_id, *args)


def sent_together(connection: sqlite3.Connection, receipts: Mapping[int, str], now: float) -> None:
    """`sent` for each row of an album, or for none of them: the id of each one's message."""
    for outbox_id, message_id in receipts.items():
        sent(connection, outbox_id, message_id, now)


def apart(connection: sqlite3.Connection, outbox_id: int, error: str, now: float) -> None:
    """The platform does not take it together with others: it goes again by itself."""
    postponed(connection, outbox_id, now, error, now)
    connection.execute(APART, (outbox_id,))


def placeholder(connection: sqlite3.Connection, outbox_id: int, platform_message_id: str) -> None:
    """Keep the id of a message that is there already and that the final text will replace by an edit."""
    if connection.execute(PLACEHOLDER, (platform_message_id, outbox_id)).rowcount == 0:
        raise UnknownRow(f"cannot keep the placeholder of outbox row {outbox_id}: there is no such row")


def doubt(connection: sqlite3.Connection, row: OutboxRow) -> OutboxRow:
    """The platform may have the beginning of this one, which waits: its first try is a marked one already."""
    connection.execute(DOUBT, (BEGUN, row.id))
    return replace(row, error=BEGUN)


def sent(connection: sqlite3.Connection, outbox_id: int, platform_message_id: str, now: float) -> None:
    """The platform has it, under this id."""
    _step(connection, outbox_id, OutboxState.SENT)
    connection.execute(SENT, (now, platform_message_id, outbox_id))


def postponed(connection: sqlite3.Connection, outbox_id: int, next_try_at: float, error: str, now: float) -> None:
    """Not now: `due` again from ``next_try_at`` on. ``error`` `rows.UNCERTAIN` makes the next try a marked one."""
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
    postponed(connection, outbox_id, now, known.doubt if uncertain else "", now)
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
        error = "hermesd ended while it was being sent"
        known = outbox_row(row)
        ambiguous(connection, known.id, f"{known.doubt}; {error}" if known.begun else error, now)
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


def ids_of_others(connection: sqlite3.Connection, target: Target, outbox_id: int = 0) -> frozenset[str]:
    """The ids of the last messages at the platform in this chat, but for that of one row."""
    place = {"platform": target.platform, "chat": target.chat_id, "id": outbox_id, "limit": OTHERS_LIMIT}
    return frozenset(row[0] for row in connection.execute(OTHERS, place))


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
