"""Messages of users: on disk before the platform is told "got it", until each is answered or visibly set aside.

De-duplication is by the set of (platform, chat, message id), never by a highest id: Telegram's ids start again at
random after a quiet week, and a mark would then lose messages. Where a platform may use an id again
(`Inbound.known_for`), the row that had it keeps it with its own number behind it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from hermesd.adapters.contract import Inbound

from . import cursors
from .errors import IllegalTransition, UnknownRow
from .rows import InboxRow, dump_attachments, dump_delivery, dump_history, inbox_row
from .states import INBOX, INBOX_ENDED, INBOX_OPEN, InboxState, require, sql_list

INSERT = """
    INSERT INTO inbox (platform, chat_id, message_id, thread_id, chat_type, chat_name, user_id, user_id_alt, user_name,
                       trusted, text, attachments_json, history_json, sent_at, reply_to_id, reply_to_text, album,
                       delivery_json, received_at, state, changed_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'received', ?)
    ON CONFLICT (platform, chat_id, message_id) DO NOTHING
"""
# Its id is free then; nobody looks for the row by it any more.
FREE_ID = f"""
    UPDATE inbox SET message_id = message_id || '@' || id
    WHERE platform = ? AND chat_id = ? AND message_id = ? AND received_at <= ? AND state IN {sql_list(INBOX_ENDED)}
"""
PROGRESS = "SELECT state, turn, worker, attempt, killed FROM inbox WHERE id = ?"
QUEUED = """
    UPDATE inbox SET state = 'queued', changed_at = ?, session_key = ?, worker = '', killed = ?, error = ? WHERE id = ?
"""
DISPATCHED = "UPDATE inbox SET state = 'dispatched', changed_at = ?, turn = ?, worker = ?, attempt = ? WHERE id = ?"
ACCEPTED = "UPDATE inbox SET state = 'accepted', changed_at = ? WHERE id = ?"
ENDED = "UPDATE inbox SET state = ?, changed_at = ?, killed = ?, error = ? WHERE id = ?"
AFRESH = """
    UPDATE inbox SET state = 'queued', changed_at = ?, session_key = ?, turn = '', worker = '', attempt = 0, killed = 0,
                     error = ''
    WHERE id = ?
"""
QUOTE = "UPDATE inbox SET reply_to_id = ?, reply_to_text = ? WHERE id = ?"
HANDED = "UPDATE inbox SET turn = ?, session_key = ? WHERE id = ? AND state = 'received'"
HANDED_BACK = "UPDATE inbox SET turn = '' WHERE id = ? AND state = 'received'"
HANDED_TO = "SELECT id FROM inbox WHERE turn = ? AND state = 'received'"
CONTENTS = "UPDATE inbox SET text = ?, attachments_json = ? WHERE id = ?"
SHOW = "SELECT * FROM inbox WHERE id = ?"
UNFINISHED = f"SELECT * FROM inbox WHERE state IN {sql_list(INBOX_OPEN)} ORDER BY id"
LATEST_TURN = """
    SELECT inbox.* FROM inbox JOIN turns ON turns.turn = inbox.turn AND turns.inbox_id = inbox.id
                              JOIN sessions ON sessions.session_id = turns.session_id
    WHERE inbox.session_key = ? AND inbox.turn <> '' AND sessions.ended_at IS NULL ORDER BY inbox.id DESC LIMIT 1
"""
LISTED = "SELECT * FROM inbox WHERE (:session = '' OR session_key = :session) AND {} ORDER BY id DESC LIMIT :limit"


def receive(connection: sqlite3.Connection, inbound: Inbound, now: float) -> InboxRow | None:
    """Keep a message, and its cursor. None: the message was there already, in whatever state. Called by the receiver of
    every adapter.
    """
    if inbound.known_for:
        place = (inbound.platform, inbound.chat_id, inbound.message_id)
        connection.execute(FREE_ID, (*place, now - inbound.known_for))
    cursor = connection.execute(
        INSERT,
        (
            inbound.platform,
            inbound.chat_id,
            inbound.message_id,
            inbound.thread_id,
            inbound.chat_type,
            inbound.chat_name,
            inbound.user_id,
            inbound.user_id_alt,
            inbound.user_name,
            inbound.trusted,
            inbound.text,
            dump_attachments(inbound.attachments),
            dump_history(inbound.history),
            inbound.sent_at,
            inbound.reply_to_id,
            inbound.reply_to_text,
            inbound.album,
            dump_delivery(inbound.delivery),
            now,
            now,
        ),
    )
    if inbound.cursor is not None:
        cursors.keep(connection, inbound.platform, inbound.cursor)
    if cursor.rowcount == 0:
        return None
    assert cursor.lastrowid is not None
    return InboxRow(cursor.lastrowid, inbound, now, InboxState.RECEIVED, now)


def queued(
    connection: sqlite3.Connection,
    inbox_id: int,
    session_key: str,
    now: float,
    *,
    error: str = "",
    killed_worker: bool = False,
) -> int:
    """It belongs to this session and waits for its worker; also again, after a worker died.

    Returns how many workers have died of it, this one counted if ``killed_worker``.
    """
    progress = _step(connection, inbox_id, InboxState.QUEUED)
    killed = int(progress["killed"]) + killed_worker
    connection.execute(QUEUED, (now, session_key, killed, error, inbox_id))
    return killed


def dispatched(connection: sqlite3.Connection, inbox_id: int, turn: str, worker: str, now: float) -> int:
    """It is promised to this worker; committed before the send. Returns which attempt this is, from 1.

    For the core: `hermesd.supervisor.journal.turns.dispatched`, which keeps the turn's row besides.
    """
    progress = _step(connection, inbox_id, InboxState.DISPATCHED)
    attempt = int(progress["attempt"]) + 1
    connection.execute(DISPATCHED, (now, turn, worker, attempt, inbox_id))
    return attempt


def accepted(connection: sqlite3.Connection, inbox_id: int, now: float) -> None:
    """Its worker has it. For the core: `hermesd.supervisor.journal.turns.accepted`."""
    _step(connection, inbox_id, InboxState.ACCEPTED)
    connection.execute(ACCEPTED, (now, inbox_id))


def finish(
    connection: sqlite3.Connection,
    inbox_id: int,
    state: InboxState,
    now: float,
    *,
    error: str = "",
    killed_worker: bool = False,
) -> None:
    """It is over, without a turn: refused, dropped, dead, or answered by hermesd itself (a slash command).

    For one that was dispatched: `hermesd.supervisor.journal.turns.finish`.
    """
    if state not in INBOX_ENDED:
        raise ValueError(f"cannot finish an inbox row as {state.value!r}: that is not an end")
    progress = _step(connection, inbox_id, state)
    connection.execute(ENDED, (state.value, now, int(progress["killed"]) + killed_worker, error, inbox_id))


def merged(connection: sqlite3.Connection, inbox_id: int, whole: Inbound, rest: Collection[int], now: float) -> None:
    """These are one message: the first gets the contents of all, and the ``rest`` are answered with it."""
    contents(connection, inbox_id, whole)
    for other in rest:
        finish(connection, other, InboxState.ANSWERED, now, error=f"part of message {inbox_id}")


def handed(connection: sqlite3.Connection, inbox_id: int, turn: str, session_key: str) -> None:
    """The running turn of an earlier message has taken it: how that one ends decides what becomes of this one."""
    connection.execute(HANDED, (turn, session_key, inbox_id))


def handed_back(connection: sqlite3.Connection, inbox_id: int) -> bool:
    """It is a message of its own after all. False: it is over by now."""
    return connection.execute(HANDED_BACK, (inbox_id,)).rowcount > 0


def end_handed(connection: sqlite3.Connection, turn: str, inbox_id: int | None, now: float, *, used: bool) -> None:
    """The turn of message ``inbox_id`` is over: what it has taken is answered with it, or is still to be answered.

    For the core: `hermesd.supervisor.journal.turns.finish`.
    """
    for row in connection.execute(HANDED_TO, (turn,)).fetchall():
        handed_back(connection, row["id"])
        if used:
            finish(connection, row["id"], InboxState.ANSWERED, now, error=f"part of message {inbox_id}")


def contents(connection: sqlite3.Connection, inbox_id: int, inbound: Inbound) -> None:
    """Its text and files are these from now on: they were merged, or fetched."""
    connection.execute(CONTENTS, (inbound.text, dump_attachments(inbound.attachments), inbox_id))


def show(connection: sqlite3.Connection, inbox_id: int) -> InboxRow:
    """One row. Raises `UnknownRow`."""
    row = connection.execute(SHOW, (inbox_id,)).fetchone()
    if row is None:
        raise UnknownRow(f"cannot find inbox row {inbox_id}")
    return inbox_row(row)


def unfinished(connection: sqlite3.Connection) -> list[InboxRow]:
    """What an earlier life of hermesd left, oldest first. Called once, at start."""
    return [inbox_row(row) for row in connection.execute(UNFINISHED)]


def latest_turn(connection: sqlite3.Connection, session_key: str) -> InboxRow | None:
    """The last message that an agent was asked to answer in the session's current life: what /retry repeats."""
    row = connection.execute(LATEST_TURN, (session_key,)).fetchone()
    return None if row is None else inbox_row(row)


def repeat(connection: sqlite3.Connection, inbox_id: int, repeated_id: int) -> InboxRow:
    """Give a row, a /retry, the contents of the message that it repeats. Returns it. Raises `UnknownRow`."""
    inbound = show(connection, repeated_id).inbound
    contents(connection, inbox_id, inbound)
    connection.execute(QUOTE, (inbound.reply_to_id, inbound.reply_to_text, inbox_id))
    return show(connection, inbox_id)


def afresh(connection: sqlite3.Connection, inbox_id: int, session_key: str, now: float) -> InboxRow:
    """An operator has it tried again as if nobody had tried it yet: a new turn, no attempts, no deaths. Returns it.

    Raises `IllegalTransition` for one that is open or answered, `UnknownRow`.
    """
    known = show(connection, inbox_id)
    if known.state in INBOX_OPEN:  # from there the table's step back is a turn's, which keeps its count
        raise IllegalTransition(f"cannot try inbox row {inbox_id} afresh: it is {known.state.value!r}")
    _step(connection, inbox_id, InboxState.QUEUED)
    connection.execute(AFRESH, (now, session_key, inbox_id))
    return show(connection, inbox_id)


def listed(
    connection: sqlite3.Connection, states: Collection[InboxState] = (), session_key: str = "", limit: int = 100
) -> list[InboxRow]:
    """The newest rows first; ``states`` empty and ``session_key`` "" mean all."""
    query = LISTED.format(f"state IN {sql_list(tuple(states))}" if states else "TRUE")
    rows = connection.execute(query, {"session": session_key, "limit": limit})
    return [inbox_row(row) for row in rows]


def _step(connection: sqlite3.Connection, inbox_id: int, then: InboxState) -> sqlite3.Row:
    progress: sqlite3.Row | None = connection.execute(PROGRESS, (inbox_id,)).fetchone()
    if progress is None:
        raise UnknownRow(f"cannot make inbox row {inbox_id} {then.value!r}: there is no such row")
    require(INBOX, f"inbox row {inbox_id}", InboxState(progress["state"]), then)
    return progress
