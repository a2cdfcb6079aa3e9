"""Chats: whether anybody ever wrote from one."""

from __future__ import annotations

import sqlite3

SEEN = """
    SELECT EXISTS (SELECT 1 FROM inbox WHERE platform = ? AND chat_id = ?)
        OR EXISTS (SELECT 1 FROM sessions WHERE platform = ? AND chat_id = ?)
"""


def seen(connection: sqlite3.Connection, platform: str, chat_id: str) -> bool:
    """Whether a message came from this chat, or a session began there."""
    return bool(connection.execute(SEEN, (platform, chat_id, platform, chat_id)).fetchone()[0])
