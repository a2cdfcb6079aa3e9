"""Worker processes that hold a session: written before the first turn is promised to one, deleted when it is gone.

A hermesd that starts reads here which of the processes that its dead predecessor left are whose.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from hermesd.ipc.messages import Answer

from . import answers, sessions
from .rows import InboxRow, SessionRow, WorkerRow, inbox_row, worker_row

RECORD = """
    INSERT INTO workers (worker, session_key, session_id, ephemeral, wire_name, tag, containment, place, proof, stacks,
                         keeper, pid, start_ticks, started_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (worker) DO UPDATE SET containment = excluded.containment, place = excluded.place,
        keeper = excluded.keeper, pid = excluded.pid, start_ticks = excluded.start_ticks
"""
FORGET = "DELETE FROM workers WHERE worker = ?"
ALL = "SELECT * FROM workers ORDER BY started_at, worker"
OPEN_TURN = """
    SELECT * FROM inbox WHERE worker = ? AND session_key = ? AND state IN ('dispatched', 'accepted')
    ORDER BY id DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Estate:
    """A worker that an earlier hermesd left on disk, with what it was at.

    ``session`` None: its session has been reset or has ended since. ``message``: the one it was promised and that is
    not over, with the ``answers`` that were given to its turn's questions.
    """

    row: WorkerRow
    session: SessionRow | None
    message: InboxRow | None
    answers: tuple[Answer, ...] = ()

    @property
    def outlives_its_caller(self) -> bool:
        """Its session is for this one message, and the answer goes elsewhere than to who sent it."""
        return self.message is not None and self.message.inbound.delivery is not None


def record(connection: sqlite3.Connection, row: WorkerRow) -> None:
    """It has a session from now on; again, when it is a process, and when another keeper holds it."""
    connection.execute(
        RECORD,
        (
            row.worker,
            row.session_key,
            row.session_id,
            row.ephemeral,
            row.wire_name,
            row.tag,
            row.containment,
            row.place,
            row.proof,
            row.stacks,
            row.keeper,
            row.pid,
            row.start_ticks,
            row.started_at,
        ),
    )


def forget(connection: sqlite3.Connection, worker: str) -> None:
    """It is gone; nothing for a worker without a row."""
    connection.execute(FORGET, (worker,))


def left(connection: sqlite3.Connection) -> list[Estate]:
    """Every worker on disk, oldest first. Called once, at start."""
    found = []
    for raw in connection.execute(ALL).fetchall():
        row = worker_row(raw)
        session = sessions.current(connection, row.session_key)
        open_turn = connection.execute(OPEN_TURN, (row.worker, row.session_key)).fetchone()
        message = inbox_row(open_turn) if open_turn is not None else None
        found.append(
            Estate(
                row,
                session if session is not None and session.session_id == row.session_id else None,
                message,
                answers.of_turn(connection, message.turn) if message is not None else (),
            )
        )
    return found
