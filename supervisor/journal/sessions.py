"""Sessions: one current life per key, and the lives before it."""

from __future__ import annotations

import secrets
import sqlite3
import time

from .errors import UnknownRow
from .rows import Origin, SessionHistory, SessionRow, session_row
from .states import INBOX_OPEN, sql_list

INSERT = """
    INSERT INTO sessions (session_id, key, platform, chat_id, chat_type, chat_name, thread_id, user_id, user_name,
                          ephemeral, created_at, updated_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
CURRENT = "SELECT * FROM sessions WHERE key = ? AND ended_at IS NULL"
EARLIER = "SELECT * FROM sessions WHERE key = ? AND ended_at IS NOT NULL ORDER BY created_at DESC, rowid DESC"
ALL_CURRENT = "SELECT * FROM sessions WHERE ended_at IS NULL ORDER BY updated_at DESC LIMIT ?"
KEYS_SO = """
    SELECT DISTINCT key FROM sessions WHERE (key = :name OR substr(key, -length(:end)) = :end) AND {} ORDER BY key
"""
KEYS = "SELECT key FROM sessions WHERE ended_at IS NULL AND NOT ephemeral"
END = "UPDATE sessions SET ended_at = ?, end_reason = ? WHERE key = ? AND ended_at IS NULL"
END_LEFT = f"""
    UPDATE sessions SET ended_at = ?, end_reason = 'restarted' WHERE ephemeral AND ended_at IS NULL
        AND key NOT IN (SELECT session_key FROM inbox WHERE state IN {sql_list(INBOX_OPEN)})
"""
TOUCH = "UPDATE sessions SET updated_at = MAX(updated_at, ?) WHERE session_id = ?"
COUNT = """
    UPDATE sessions SET prompt_tokens = prompt_tokens + ?, completion_tokens = completion_tokens + ?
    WHERE session_id = ?
"""
ENTRIES = "SELECT COUNT(*) FROM transcripts WHERE session_id = ?"


def get_or_create(
    connection: sqlite3.Connection, key: str, origin: Origin, now: float, *, ephemeral: bool = False
) -> SessionRow:
    """The current session of the key; one that was just begun has ``created_at == now``.

    ``ephemeral``: it is this one request; whoever asks for it also calls `end`, and retention removes all of it.
    """
    return current(connection, key) or _begin(connection, key, origin, now, ephemeral)


def current(connection: sqlite3.Connection, key: str) -> SessionRow | None:
    """The current session of the key."""
    row = connection.execute(CURRENT, (key,)).fetchone()
    return None if row is None else session_row(row)


def reset(connection: sqlite3.Connection, key: str, reason: str, now: float) -> SessionRow:
    """End the current session and begin a new one at the same place. Raises `UnknownRow` when there is none."""
    ended = current(connection, key)
    if ended is None:
        raise UnknownRow(f"cannot reset session {key}: there is no such session")
    end(connection, key, reason, now)
    return _begin(connection, key, ended.origin, now, ended.ephemeral)


def end(connection: sqlite3.Connection, key: str, reason: str, now: float) -> bool:
    """End the current session and begin none. False: there was none."""
    return connection.execute(END, (now, reason, key)).rowcount == 1


def end_left(connection: sqlite3.Connection, now: float) -> int:
    """End the sessions of single requests that an earlier life of hermesd answered and had no time to end."""
    return connection.execute(END_LEFT, (now,)).rowcount


def touch(connection: sqlite3.Connection, session_id: str, now: float) -> None:
    """It was used; idle time counts from here. `hermesd.supervisor.journal.turns.finish` does it by itself."""
    connection.execute(TOUCH, (now, session_id))


def count(connection: sqlite3.Connection, session_id: str, prompt: int, completion: int) -> None:
    """Add the tokens that a turn has used."""
    connection.execute(COUNT, (prompt, completion, session_id))


def list_current(connection: sqlite3.Connection, limit: int = -1) -> list[SessionRow]:
    """Current sessions, last used first; all of them unless there is a ``limit``."""
    return [session_row(row) for row in connection.execute(ALL_CURRENT, (limit,))]


def keys_named(connection: sqlite3.Connection, name: str, *, ended: bool = False) -> list[str]:
    """The keys that are this name, or end with it as whole parts; ``ended``: also those without a current session."""
    query = KEYS_SO.format("TRUE" if ended else "ended_at IS NULL")
    return [row["key"] for row in connection.execute(query, {"name": name, "end": f":{name}"})]


def keys(connection: sqlite3.Connection) -> list[str]:
    """Of every lasting session."""
    return [row["key"] for row in connection.execute(KEYS)]


def show(connection: sqlite3.Connection, key: str) -> SessionHistory | None:
    """A key with its earlier sessions; None when there never was one."""
    now_current = current(connection, key)
    earlier = tuple(session_row(row) for row in connection.execute(EARLIER, (key,)))
    if now_current is None and not earlier:
        return None
    entries = connection.execute(ENTRIES, (now_current.session_id,)).fetchone()[0] if now_current else 0
    return SessionHistory(now_current, earlier, entries)


def new_session_id(now: float) -> str:
    """``20261122_185500_1a2b3c4d``: local time, then chance."""
    return f"{time.strftime('%Y%m%d_%H%M%S', time.localtime(now))}_{secrets.token_hex(4)}"


def _begin(connection: sqlite3.Connection, key: str, origin: Origin, now: float, ephemeral: bool) -> SessionRow:
    session = SessionRow(new_session_id(now), key, origin, now, now, ephemeral)
    connection.execute(
        INSERT,
        (
            session.session_id,
            key,
            origin.platform,
            origin.chat_id,
            origin.chat_type,
            origin.chat_name,
            origin.thread_id,
            origin.user_id,
            origin.user_name,
            ephemeral,
            now,
            now,
        ),
    )
    return session
