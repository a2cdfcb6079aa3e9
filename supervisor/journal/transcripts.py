"""What was said in each session: the history that a new worker is given."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from hermesd.ipc.messages import Entry

from .rows import TranscriptRow, transcript_row

NEXT = "SELECT COALESCE(MAX(seq), 0) + 1 FROM transcripts WHERE session_id = ?"
INSERT = "INSERT INTO transcripts (session_id, seq, role, text, at, turn) VALUES (?, ?, ?, ?, ?, ?)"
NEWEST = "SELECT * FROM transcripts WHERE session_id = ? ORDER BY seq DESC LIMIT ?"
CUT = """
    DELETE FROM transcripts WHERE session_id = :session
    AND seq >= (SELECT MIN(seq) FROM transcripts WHERE session_id = :session AND turn = :turn)
"""


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


def cut_turn(connection: sqlite3.Connection, session_id: str, turn: str) -> int:
    """Take back what this turn left and everything after it. For /retry. Returns how many entries that were.

    A turn that was ended before its answer began has left none.
    """
    return connection.execute(CUT, {"session": session_id, "turn": turn}).rowcount
