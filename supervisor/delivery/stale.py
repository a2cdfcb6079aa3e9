"""Takes back messages that show nothing of an answer any more. Nothing depends on it."""

from __future__ import annotations

from collections.abc import Iterable

from hermesd.adapters.contract import Adapter, CanDelete, CanEdit, Outbound, Target, capability
from hermesd.supervisor.journal import progress
from hermesd.supervisor.journal.persistence import Persistence
from hermesd.supervisor.journal.rows import ProgressRow

from .asides import Asides

NOTHING = "\u2026"
"""What such a message reads where it cannot be taken back."""


class Stale:
    """Owned by the deliverer."""

    def __init__(self, asides: Asides, persistence: Persistence):
        self._asides = asides
        self._persistence = persistence

    def take_back(self, rows: Iterable[ProgressRow]) -> None:
        """What the journal has as stale; it forgets those that are done with."""
        for row in rows:
            self._soon(row.target, row.message_id, row.turn)

    def take_back_one(self, target: Target, message_id: str) -> None:
        """A message that the journal does not know as one."""
        self._soon(target, message_id, "")

    def _soon(self, target: Target, message_id: str, turn: str) -> None:
        async def call(adapter: Adapter) -> None:
            if (deleter := capability(adapter, CanDelete)) is not None:
                await deleter.delete(target, message_id)
            elif (editor := capability(adapter, CanEdit)) is not None:
                await editor.edit(target, message_id, Outbound(message_id, NOTHING, kind="progress", final=False))

        async def forget() -> None:
            if turn:
                await self._persistence.keep(progress.forget, turn, message_id)

        self._asides.soon(target, f"take message {message_id} back", call, forget)
