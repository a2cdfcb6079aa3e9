"""The messages at a platform that show a running answer, so that whoever has to end it finds them."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence

from hermesd.adapters.contract import Outbound

from . import outbox
from .rows import OutboxRow, ProgressRow, progress_row

KEEP = """
    INSERT INTO progress (turn, number, platform, chat_id, thread_id, message_id, segment, begins, text)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (turn, message_id) DO UPDATE SET
        number = excluded.number, segment = excluded.segment, begins = excluded.begins, text = excluded.text,
        stale = 0
"""
OF_TURN = "SELECT * FROM progress WHERE turn = ? AND NOT stale ORDER BY number"
OF_TURN_STALE = "SELECT * FROM progress WHERE turn = ? AND stale ORDER BY number"
STALE = "SELECT * FROM progress WHERE stale ORDER BY turn, number"
MARK = "UPDATE progress SET stale = 1 WHERE turn = ?"
FORGET = "DELETE FROM progress WHERE turn = ? AND message_id = ?"
FORGET_OTHERS = "DELETE FROM progress WHERE turn = ? AND message_id NOT IN ({})"
# The turn is over, and no answer waits that would take its messages over.
MARK_ORPHANS = """
    UPDATE progress SET stale = 1
    WHERE EXISTS (SELECT 1 FROM turns WHERE turns.turn = progress.turn AND turns.ended_at IS NOT NULL)
      AND NOT EXISTS (
          SELECT 1 FROM outbox
          WHERE outbox.key = progress.turn || ':answer' AND outbox.part_of = 0
            AND outbox.state IN ('pending', 'sending', 'ambiguous')
      )
"""


def keep(connection: sqlite3.Connection, row: ProgressRow) -> None:
    """The message is there, or its text has become final."""
    target = row.target
    place = (target.platform, target.chat_id, target.thread_id)
    connection.execute(KEEP, (row.turn, row.number, *place, row.message_id, row.segment, row.begins, row.text))


def of_turn(connection: sqlite3.Connection, turn: str) -> list[ProgressRow]:
    """Oldest first."""
    return [progress_row(row) for row in connection.execute(OF_TURN, (turn,))]


def taken_over(connection: sqlite3.Connection, turn: str, stale: Collection[str]) -> None:
    """The final answer has these messages; those of ``stale`` are of no use and are to be taken back."""
    marks = ", ".join("?" * len(stale))
    connection.execute(FORGET_OTHERS.format(marks), (turn, *stale))
    connection.execute(MARK, (turn,))


def end_in_parts(
    connection: sqlite3.Connection,
    outbox_id: int,
    parts: Sequence[tuple[Outbound, str]],
    turn: str,
    stale: Collection[str],
    now: float,
) -> tuple[list[OutboxRow], list[ProgressRow]]:
    """`outbox.cut`, and with ``turn`` the end of its progress, both or neither. Returns the parts, and what to take
    back.
    """
    rows = outbox.cut(connection, outbox_id, parts, now)
    if not turn:
        return rows, []
    taken_over(connection, turn, stale)
    return rows, [progress_row(row) for row in connection.execute(OF_TURN_STALE, (turn,))]


def forget(connection: sqlite3.Connection, turn: str, message_id: str) -> None:
    """It was taken back, or cannot be."""
    connection.execute(FORGET, (turn, message_id))


def stale(connection: sqlite3.Connection) -> list[ProgressRow]:
    """What nobody will finish: called at start, when no turn of an earlier life is open that is not known to be."""
    connection.execute(MARK_ORPHANS)
    return [progress_row(row) for row in connection.execute(STALE)]
