"""How far each adapter has read the streams of its platform."""

from __future__ import annotations

import sqlite3

from hermesd.adapters.contract import Cursor

GET = "SELECT value FROM cursors WHERE platform = ? AND name = ?"
ALL = "SELECT name, value FROM cursors WHERE platform = ?"
KEEP = """
    INSERT INTO cursors (platform, name, value) VALUES (?, ?, ?)
    ON CONFLICT (platform, name) DO UPDATE SET value = excluded.value
"""


def get(connection: sqlite3.Connection, platform: str, name: str) -> str:
    """The latest value, "" for none."""
    row = connection.execute(GET, (platform, name)).fetchone()
    return "" if row is None else str(row["value"])


def all_of(connection: sqlite3.Connection, platform: str) -> dict[str, str]:
    """Every cursor of one platform, by name."""
    return {str(row["name"]): str(row["value"]) for row in connection.execute(ALL, (platform,))}


def keep(connection: sqlite3.Connection, platform: str, cursor: Cursor) -> None:
    """The stream has been read up to here; it replaces what was kept before."""
    connection.execute(KEEP, (platform, cursor.name, cursor.value))
