"""Users' answers to the questions of running turns: written before they are sent, forgotten when the turn is over.

A hermesd that takes a worker over may find it still waiting for one that was on the wire when the hermesd before ended.
"""

from __future__ import annotations

import sqlite3

from hermesd.ipc.messages import Answer

RECORD = "INSERT INTO answers (ask, turn, choice, by_user) VALUES (?, ?, ?, ?) ON CONFLICT (ask) DO NOTHING"
OF_TURN = "SELECT ask, choice, by_user FROM answers WHERE turn = ? ORDER BY ask"
FORGET = "DELETE FROM answers WHERE turn = ?"


def record(connection: sqlite3.Connection, turn: str, answer: Answer) -> bool:
    """It was given, by a user or by the end of the time for it. False: another one was, before."""
    return connection.execute(RECORD, (answer.ask, turn, answer.choice, answer.by)).rowcount > 0


def of_turn(connection: sqlite3.Connection, turn: str) -> tuple[Answer, ...]:
    """All that were given to the questions of this turn."""
    return tuple(Answer(row["ask"], row["choice"], row["by_user"]) for row in connection.execute(OF_TURN, (turn,)))


def forget(connection: sqlite3.Connection, turn: str) -> None:
    """The turn is over. For the core: `hermesd.supervisor.journal.turns.finish`."""
    connection.execute(FORGET, (turn,))
