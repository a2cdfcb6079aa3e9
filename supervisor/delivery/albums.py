"""Parts that the platform shows together: several rows and one call. Pure.

Each file keeps a row of its own, so that each has a receipt; all of them take every step in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import takewhile

from hermesd.supervisor.journal.rows import OutboxRow


def together(rows: Iterable[OutboxRow]) -> list[OutboxRow]:
    """The first row and those behind it that go in its call."""
    waiting = iter(rows)
    first = next(waiting)
    if not first.message.album:
        return [first]
    return [first, *takewhile(lambda row: row.message.album == first.message.album, waiting)]


def joined(rows: Sequence[OutboxRow]) -> OutboxRow:
    """All of them as the one row that is sent; what is uncertain of one is uncertain of the call."""
    first, last = rows[0], rows[-1]
    if first is last:
        return first
    message = replace(
        first.message,
        files=tuple(file for row in rows for file in row.message.files),
        final=last.message.final,
        usage=last.message.usage,
    )
    return replace(first, message=message, error=next((row.error for row in rows if row.uncertain), first.error))


def receipts(rows: Sequence[OutboxRow], message_id: str, others: Sequence[str]) -> dict[int, str]:
    """The id of the message that each row has become: its own, or the one that holds all of them."""
    ids = [message_id, *others] if len(others) == len(rows) - 1 else [message_id] * len(rows)
    return {row.id: shown for row, shown in zip(rows, ids, strict=True)}
