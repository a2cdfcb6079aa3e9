"""Forgetting what is over: contents after the kept time, the ids of messages no sooner than platforms redeliver."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from .states import INBOX_ENDED, OUTBOX_ENDED, sql_list

DAY = 86400.0
DEDUPLICATION_DAYS = 30.0  # an id that comes again within this time is known
WAITING_DAYS = 7.0  # how long a message waits for somebody to look at its chat

# A dead letter stays until somebody decided on it.
_FORGETTABLE = tuple(state for state in INBOX_ENDED if state != "dead")
BLANK_INBOX = f"""
    UPDATE inbox SET text = '', attachments_json = '[]', history_json = NULL, error = '', user_name = '', chat_name = ''
    WHERE id IN (
        SELECT id FROM inbox WHERE state IN {sql_list(_FORGETTABLE)} AND changed_at < :before
        AND (text <> '' OR attachments_json <> '[]' OR history_json IS NOT NULL OR error <> '' OR user_name <> ''
             OR chat_name <> '')
        LIMIT :limit
    )
"""
DELETE_INBOX = f"""
    DELETE FROM inbox WHERE id IN (
        SELECT id FROM inbox WHERE state IN {sql_list(_FORGETTABLE)} AND changed_at < :before LIMIT :limit
    )
"""
DELETE_OUTBOX = f"""
    DELETE FROM outbox WHERE id IN (
        SELECT id FROM outbox WHERE state IN {sql_list(OUTBOX_ENDED)} AND changed_at < :before LIMIT :limit
    )
"""
DROP_WAITING = f"""
    UPDATE outbox
    SET state = 'dropped', changed_at = :now, error = 'nobody looked at this chat for {WAITING_DAYS:g} days'
    WHERE id IN (SELECT id FROM outbox WHERE state = 'waiting' AND created_at < :before LIMIT :limit)
"""
DELETE_TURNS = """
    DELETE FROM turns WHERE turn IN (SELECT turn FROM turns WHERE ended_at < :before LIMIT :limit)
"""
DELETE_EPHEMERAL = """
    DELETE FROM sessions WHERE session_id IN (
        SELECT session_id FROM sessions WHERE ended_at < :before AND ephemeral LIMIT :limit
    )
"""


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows one call of `prune` took."""

    blanked: int = 0  # inbox rows of which only the id and the state are left
    inbox: int = 0
    outbox: int = 0
    unseen: int = 0  # messages to chats that nobody looks at; they become *dropped*
    turns: int = 0
    sessions: int = 0  # ephemeral ones, with their transcripts

    def __bool__(self) -> bool:
        return any((self.blanked, self.inbox, self.outbox, self.unseen, self.turns, self.sessions))


def prune(connection: sqlite3.Connection, now: float, *, days: float = 30.0, limit: int = 500) -> Pruned:
    """Forget what ended more than ``days`` days ago; ids of inbox rows stay for at least `DEDUPLICATION_DAYS`.

    A message that waits for somebody to look at its chat does so for `WAITING_DAYS`.
    At most ``limit`` rows of each kind in one call, so that no writer waits long behind it: repeat until the result is
    false. What is not over, dead letters, and conversations of lasting sessions are kept.
    """
    old = {"before": now - days * DAY, "limit": limit}
    known = {"before": now - max(days, DEDUPLICATION_DAYS) * DAY, "limit": limit}
    unseen = {"before": now - WAITING_DAYS * DAY, "limit": limit, "now": now}
    inbox = connection.execute(DELETE_INBOX, known).rowcount
    return Pruned(
        blanked=connection.execute(BLANK_INBOX, old).rowcount,
        inbox=inbox,
        outbox=connection.execute(DELETE_OUTBOX, old).rowcount,
        unseen=connection.execute(DROP_WAITING, unseen).rowcount,
        turns=connection.execute(DELETE_TURNS, old).rowcount,
        sessions=connection.execute(DELETE_EPHEMERAL, old).rowcount,
    )
