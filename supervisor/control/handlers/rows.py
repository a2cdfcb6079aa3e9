"""What ``inbox`` and ``outbox`` have in common: rows by number, chosen by state, and what became of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Any, TypeVar

from hermesd.supervisor.control.errors import Code, Refused
from hermesd.supervisor.control.shapes import SCHEMA
from hermesd.supervisor.gateway.inbox_orders import Unsuitable
from hermesd.supervisor.journal.errors import IllegalTransition, JournalUnavailable, UnknownRow

BEGINNING = 200
"""Characters of a message that a list shows."""

MOST = 1000
"""Rows of one list."""

_State = TypeVar("_State", bound=StrEnum)


def chosen(words: type[_State], name: str) -> tuple[_State, ...]:
    """The state that is asked for; () for all. Raises `Refused`."""
    if not name:
        return ()
    try:
        return (words(name),)
    except ValueError:
        known = ", ".join(words)
        raise Refused(Code.USAGE, f"there is no state {name[:60]!r}; there are: {known}") from None


def bounded(limit: int) -> int:
    """How many rows are asked for. Raises `Refused`."""
    if not 1 <= limit <= MOST:
        raise Refused(Code.USAGE, f'"limit" must be 1 to {MOST}, not {limit}')
    return limit


def number(text: str) -> int:
    """The number of a row. Raises `Refused`."""
    # SQLite's integers have 64 bits.
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise Refused(Code.USAGE, f"{text[:60]!r} is not the number of a message")
    return int(text)


async def each(texts: list[str], order: Callable[[int], Awaitable[str]]) -> dict[str, Any]:
    """Run an order on several rows, one after the other; it returns a sentence. The document of what became of each."""
    numbers = [number(text) for text in texts]  # all are checked before the first is touched
    return {"schema": SCHEMA, "messages": [await _outcome(row_id, order) for row_id in numbers]}


async def _outcome(row_id: int, order: Callable[[int], Awaitable[str]]) -> dict[str, Any]:
    try:
        return {"id": row_id, "outcome": "done", "detail": await order(row_id)}
    except UnknownRow:
        return {"id": row_id, "outcome": "not_found", "detail": "there is no such message"}
    except (Unsuitable, IllegalTransition) as error:
        return {"id": row_id, "outcome": "refused", "detail": str(error)}
    except JournalUnavailable as error:
        return {"id": row_id, "outcome": "failed", "detail": str(error)}
