"""Chats: whether anybody ever wrote from one, and whether a message of one is still to be answered."""

from __future__ import annotations

import sqlite3

from .states import INBOX_OPEN, OUTBOX_OPEN, sql_list

SEEN = """
    SELECT EXISTS (SELECT 1 FROM inbox WHERE platform = ? AND chat_id = ?)
        OR EXISTS (SELECT 1 FROM sessions WHERE platform = ? AND chat_id = ?)
"""
OWES = f"""
    SELECT EXISTS (SELECT 1 FROM inbox
                   WHERE platform = ? AND chat_id = ? AND message_id = ? AND state IN {sql_list(INBOX_OPEN)})
        OR EXISTS (SELECT 1 FROM outbox
                   WHERE platform = ? AND chat_id = ? AND reply_to = ? AND state IN {sql_list(OUTBOX_OPEN)})
"""


def seen(connection: sqlite3.Connection, platform: str, chat_id: str) -> bool:
    """Whether a message came from this chat, or a session began there."""
    return bool(connection.execute(SEEN, (platform, chat_id, platform, chat_id)).fetchone()[0])


def owes_answer(connection: sqlite3.Connection, platform: str, chat_id: str, message_id: str) -> bool:
    """Whether something is still to be said to this message: it is open, or a reply to it is not over."""
    place = (platform, chat_id, message_id)
    return bool(connection.execute(OWES, place * 2).fetchone()[0])
