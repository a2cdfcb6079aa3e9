"""Which platforms a person has paused: that must outlive hermesd."""

from __future__ import annotations

import sqlite3

PREFIX = "paused platform "

ALL = "SELECT key FROM meta WHERE key LIKE ? || '%'"
PAUSE = "INSERT INTO meta (key, value) VALUES (?, '') ON CONFLICT (key) DO NOTHING"
RESUME = "DELETE FROM meta WHERE key = ?"


def paused(connection: sqlite3.Connection) -> frozenset[str]:
    """Their names."""
    return frozenset(str(row["key"]).removeprefix(PREFIX) for row in connection.execute(ALL, (PREFIX,)))


def pause(connection: sqlite3.Connection, platform: str) -> None:
    """It stays disconnected until `resume`."""
    connection.execute(PAUSE, (PREFIX + platform,))


def resume(connection: sqlite3.Connection, platform: str) -> None:
    """It connects again, now and at every start."""
    connection.execute(RESUME, (PREFIX + platform,))
