"""Chats that nobody looks at just now: what is for them waits in the outbox, and comes back in order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hermesd.supervisor.journal import outbox
from hermesd.supervisor.journal.persistence import Persistence
from hermesd.supervisor.journal.rows import OutboxRow
from hermesd.supervisor.tasks import Tasks

KEPT = 100
"""Messages that wait for one chat; the oldest beyond are given up. How long they may: `journal.retention`."""

Lane = tuple[str, str, str]
"""Platform, chat, thread."""


@dataclass(slots=True)
class _Return:
    reads: int = 0  # of the journal, which are under way
    rows: list[OutboxRow] = field(default_factory=list)


class Absence:
    """Owned by `Deliverer`. ``deliver`` takes what may go again."""

    def __init__(self, persistence: Persistence, tasks: Tasks, deliver: Callable[[Iterable[OutboxRow]], None]):
        self._persistence = persistence
        self._tasks = tasks
        self._deliver = deliver
        self._returns: dict[Lane, _Return] = {}

    async def begin(self, row: OutboxRow, reason: str) -> None:
        """Nobody was there to show it to."""
        await self._persistence.write(outbox.waits, row.id, reason, time.time(), most=KEPT)

    def end(self, lane: Lane) -> None:
        """Somebody looks: what waited goes now, and what comes meanwhile goes after it."""
        self._returns.setdefault(lane, _Return()).reads += 1
        # Queued for the disk at once: what begins to wait after this has an end of its own coming.
        waited = self._persistence.write(outbox.attended, *lane, time.time())

        async def bring_back() -> None:
            coming = self._returns[lane]
            coming.rows += await waited
            coming.reads -= 1
            if not coming.reads:
                del self._returns[lane]
                self._deliver(sorted(coming.rows, key=lambda row: row.id))

        self._tasks.job(bring_back(), f"bring back {lane[0]}:{lane[1]}")

    def holds(self, lane: Lane, rows: OutboxRow | deque[OutboxRow]) -> bool:
        """Whether older rows of this chat are coming back: then these go after them, and are no longer the caller's."""
        coming = self._returns.get(lane)
        if coming is None:
            return False
        if isinstance(rows, OutboxRow):
            coming.rows.append(rows)
        else:
            coming.rows += rows
            rows.clear()
        return True
