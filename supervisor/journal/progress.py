"""The messages at a platform that show a running answer, so that whoever has to end it finds them."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import replace

from hermesd.adapters.contract import Outbound, Target

from . import outbox
from .rows import OutboxRow, ProgressRow, progress_row
from .states import OutboxState

KEEP = """
    INSERT INTO progress (turn, number, platform, chat_id, thread_id, message_id, segment, begins, text)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (turn, message_id) DO UPDATE SET
        number = excluded.number, segment = excluded.segment, begins = excluded.begins, text = excluded.text,
        stale = 0
"""
OF_TURN = "SELECT * FROM progress WHERE turn = ? AND NOT stale AND message_id NOT LIKE '?%' ORDER BY number"
ANNOUNCED = "SELECT * FROM progress WHERE turn = ? AND message_id LIKE '?%' ORDER BY number"
RETRACT = "DELETE FROM progress WHERE turn = ? AND number = ? AND message_id LIKE '?%'"
RETRACT_OVER = """
    DELETE FROM progress
    WHERE message_id LIKE '?%'
      AND EXISTS (SELECT 1 FROM turns WHERE turns.turn = progress.turn AND turns.ended_at IS NOT NULL)
      AND NOT EXISTS (
          SELECT 1 FROM outbox
          WHERE outbox.key = progress.turn || ':answer' AND outbox.part_of = 0
            AND outbox.state IN ('pending', 'sending', 'ambiguous')
      )
"""
OF_TURN_STALE = "SELECT * FROM progress WHERE turn = ? AND stale AND message_id NOT LIKE '?%' ORDER BY number"
STALE = "SELECT * FROM progress WHERE stale AND message_id NOT LIKE '?%' ORDER BY turn, number"
MARK = "UPDATE progress SET stale = 1 WHERE turn = ?"
FORGET = "DELETE FROM progress WHERE turn = ? AND message_id = ?"
FORGET_OTHERS = "DELETE FROM progress WHERE turn = ? AND message_id NOT IN ({})"
# What a call says that ends after its answer took the message over.
FORGET_ANSWERS = """
    DELETE FROM progress
    WHERE EXISTS (
        SELECT 1 FROM outbox AS answer
        WHERE answer.key = progress.turn || ':answer'
          AND (answer.platform_message_id = progress.message_id OR EXISTS (
              SELECT 1 FROM outbox AS part
              WHERE part.part_of = answer.id AND part.part_of <> 0 AND part.part_of <> part.id
                AND part.platform_message_id = progress.message_id
          ))
    )
"""
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


def announce(connection: sqlite3.Connection, row: ProgressRow) -> None:
    """It is about to be sent, with this text, and has no id yet. Should hermesd die meanwhile, a platform that knows a
    message which comes twice can be asked for it by sending it again; for the others the answer will carry a mark.
    """
    keep(connection, replace(row, message_id=f"?{row.number}"))


def announced(connection: sqlite3.Connection, turn: str) -> list[ProgressRow]:
    """What was about to be sent when an earlier life ended, oldest first; the ids of these are no ids."""
    return [progress_row(row) for row in connection.execute(ANNOUNCED, (turn,))]


def retract(connection: sqlite3.Connection, turn: str, number: int) -> None:
    """It was not sent, or is known by its id."""
    connection.execute(RETRACT, (turn, number))


def keep(connection: sqlite3.Connection, row: ProgressRow) -> None:
    """The message is there, or its text has become final."""
    target = row.target
    connection.execute(RETRACT, (row.turn, row.number))
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
    *,
    uncertain: bool = False,
    begin: bool = False,
) -> tuple[list[OutboxRow], list[ProgressRow]]:
    """`outbox.cut`, with ``turn`` the end of its progress, and with ``begin`` the `outbox.sending` of the first part or
    of all of its album: all or nothing. ``uncertain``: the first part that is sent anew may be there already. Returns
    the parts, and what to take back.
    """
    rows = outbox.cut(connection, outbox_id, parts, now)
    if uncertain:
        anew = next((index for index, row in enumerate(rows) if not row.platform_message_id), None)
        if anew is not None and rows[anew].state is OutboxState.PENDING:
            rows[anew] = outbox.doubt(connection, rows[anew])
    if begin and rows[0].state is OutboxState.PENDING:
        album = rows[0].message.album
        first = [row.id for row in rows if row.message.album == album] if album else [rows[0].id]
        outbox.sending_together(connection, first, now)
    if not turn:
        return rows, []
    taken_over(connection, turn, stale)
    return rows, [progress_row(row) for row in connection.execute(OF_TURN_STALE, (turn,))]


def end_in_place(
    connection: sqlite3.Connection, turn: str, target: Target, ends: Sequence[tuple[str, str]], now: float
) -> list[OutboxRow]:
    """The turn has no answer: what is shown of it stays. Returns a row for each message of ``ends``, by id and text,
    that does not read so yet.
    """
    rows: list[OutboxRow] = []
    for number, (message_id, text) in enumerate(ends):
        message = Outbound(f"{turn}:end:{number}", text, kind="progress", final=False)
        row = outbox.add(connection, target, message, now, turn=turn)
        if row.state is OutboxState.PENDING and not row.part_of:
            rows += outbox.cut(connection, row.id, [(message, message_id)], now)
    taken_over(connection, turn, ())
    return rows


def forget(connection: sqlite3.Connection, turn: str, message_id: str) -> None:
    """It was taken back, or cannot be."""
    connection.execute(FORGET, (turn, message_id))


def stale(connection: sqlite3.Connection) -> list[ProgressRow]:
    """What nobody will finish: called at start, when no turn of an earlier life is open that is not known to be.

    Never a message of an answer.
    """
    connection.execute(FORGET_ANSWERS)
    connection.execute(RETRACT_OVER)
    connection.execute(MARK_ORPHANS)
    return [progress_row(row) for row in connection.execute(STALE)]
