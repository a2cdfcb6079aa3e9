"""Counts for ``hermesctl status`` and the metrics: what waits, since when, and what was set aside."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from .states import INBOX_OPEN, OUTBOX_ON_ITS_WAY, InboxState, OutboxState, sql_list

INBOX_STATES = "SELECT state, COUNT(*) FROM inbox GROUP BY state"
OUTBOX_STATES = "SELECT state, COUNT(*) FROM outbox GROUP BY state"
OLDEST_INBOX = f"SELECT MIN(received_at) FROM inbox WHERE state IN {sql_list(INBOX_OPEN)}"
OLDEST_OUTBOX = f"SELECT MIN(created_at) FROM outbox WHERE state IN {sql_list(OUTBOX_ON_ITS_WAY)}"
CURRENT_SESSIONS = "SELECT COUNT(*) FROM sessions WHERE ended_at IS NULL"


@dataclass(frozen=True, slots=True)
class Figures:
    """Rows of the kept time, by state (every state is there, also with 0). Ages in seconds, 0 where nothing waits."""

    inbox: dict[str, int]
    outbox: dict[str, int]
    inbox_oldest_age: float
    outbox_oldest_age: float
    sessions: int

    @property
    def dead_letters(self) -> int:
        """Messages of users that were set aside."""
        return self.inbox[InboxState.DEAD]


def count(connection: sqlite3.Connection, now: float) -> Figures:
    """For `hermesd.supervisor.journal.Journal.read`."""
    return Figures(
        inbox={state.value: 0 for state in InboxState} | _counts(connection, INBOX_STATES),
        outbox={state.value: 0 for state in OutboxState} | _counts(connection, OUTBOX_STATES),
        inbox_oldest_age=_age(connection, OLDEST_INBOX, now),
        outbox_oldest_age=_age(connection, OLDEST_OUTBOX, now),
        sessions=connection.execute(CURRENT_SESSIONS).fetchone()[0],
    )


def _counts(connection: sqlite3.Connection, query: str) -> dict[str, int]:
    return {row[0]: row[1] for row in connection.execute(query)}


def _age(connection: sqlite3.Connection, query: str, now: float) -> float:
    oldest = connection.execute(query).fetchone()[0]
    return 0.0 if oldest is None else max(0.0, now - oldest)
