"""Single values that must outlive the supervisor, by name."""

from __future__ import annotations

import sqlite3

GET = "SELECT value FROM meta WHERE key = ?"
PUT = "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


def get(connection: sqlite3.Connection, key: str) -> str | None:
    """The value, None where none was put."""
    row = connection.execute(GET, (key,)).fetchone()
    return None if row is None else str(row["value"])


def put(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Keep the value; it replaces an earlier one."""
    connection.execute(PUT, (key, value))
