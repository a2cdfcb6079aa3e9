"""What was said in each session: the history that a new worker is given."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from hermesd.ipc.messages import Entry

from .rows import TranscriptRow, transcript_row

NEXT = "SELECT COALESCE(MAX(seq), 0) + 1 FROM transcripts WHERE session_id = ?"
INSERT = "INSERT INTO transcripts (session_id, seq, role, text, at, turn) VALUES (?, ?, ?, ?, ?, ?)"
NEWEST = "SELECT * FROM transcripts WHERE session_id = ? ORDER BY seq DESC LIMIT ?"
LAST_USER = "SELECT * FROM transcripts WHERE session_id = ? AND role = 'user' ORDER BY seq DESC LIMIT 1"
CUT = "DELETE FROM transcripts WHERE session_id = ? AND seq >= ?"


def append(connection: sqlite3.Connection, session_id: str, entries: Iterable[Entry], *, turn: str = "") -> None:
    """Add to the end. `hermesd.supervisor.journal.turns.finish` does it with the rest of a turn's end."""
    first: int = connection.execute(NEXT, (session_id,)).fetchone()[0]
    connection.executemany(
        INSERT,
        [(session_id, seq, entry.role, entry.text, entry.at, turn) for seq, entry in enumerate(entries, start=first)],
    )


def load(connection: sqlite3.Connection, session_id: str, limit: int = -1) -> list[TranscriptRow]:
    """The newest ``limit`` entries (all without one), oldest first."""
    rows = [transcript_row(row) for row in connection.execute(NEWEST, (session_id, limit))]
    rows.reverse()
    return rows


def cut_last_user(connection: sqlite3.Connection, session_id: str) -> TranscriptRow | None:
    """Take back the last thing that the user said and everything after it, and return it. For /retry.

    None, and nothing taken back, when no user has said anything.
    """
    row = connection.execute(LAST_USER, (session_id,)).fetchone()
    if row is None:
        return None
    connection.execute(CUT, (session_id, row["seq"]))
    return transcript_row(row)
