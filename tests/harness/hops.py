"""Where the time of a turn went: the moments that hermesd wrote into its journal, and when the answer was shown."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

MOMENTS = """
    SELECT inbox.chat_id, inbox.message_id, inbox.received_at, turns.started_at, turns.accepted_at, turns.ended_at
    FROM turns JOIN inbox ON inbox.id = turns.inbox_id WHERE turns.state = 'done'
"""
NAMES = ("received -> dispatched", "dispatched -> accepted", "accepted -> finished", "finished -> shown")


def hops(home: Path, shown: Iterable[dict[str, Any]], chat: str) -> dict[str, list[float]]:
    """Seconds of each hop of every answered turn of a chat. Call when hermesd, the owner of the journal, has ended."""
    at = {one["reply_to"]: one["at"] for one in shown if one["final"] and one["chat"] == chat}
    connection = sqlite3.connect(home / "hermesd" / "state.db")
    found: dict[str, list[float]] = {name: [] for name in NAMES}
    try:
        for place, message, *moments in connection.execute(MOMENTS):
            if place == chat and message in at:
                moments.append(at[message])
                for name, (before, after) in zip(NAMES, pairwise(moments), strict=True):
                    found[name].append(after - before)
    finally:
        connection.close()
    return found
