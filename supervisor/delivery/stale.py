"""Takes back messages that show nothing of an answer any more. Nothing depends on it, so it is tried a few times."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from hermesd.adapters.contract import Adapter, CanDelete, CanEdit, Outbound, Target, capability
from hermesd.adapters.errors import AdapterError, Retry, Uncertain
from hermesd.supervisor.journal import progress
from hermesd.supervisor.journal.persistence import Persistence
from hermesd.supervisor.journal.rows import ProgressRow
from hermesd.supervisor.tasks import Tasks

log = logging.getLogger("hermesd.delivery")

TRIES = 3

NOTHING = "\u2026"
"""What such a message reads where it cannot be taken back."""


class Stale:
    """Owned by the deliverer."""

    def __init__(self, adapters: Mapping[str, Adapter], tasks: Tasks, persistence: Persistence):
        self._adapters = adapters
        self._tasks = tasks
        self._persistence = persistence

    def take_back(self, rows: Iterable[ProgressRow]) -> None:
        """What the journal has as stale; it forgets those that are done with."""
        for row in rows:
            self._soon(row.target, row.message_id, row.turn, TRIES)

    def take_back_one(self, target: Target, message_id: str) -> None:
        """A message that the journal does not know as one."""
        self._soon(target, message_id, "", TRIES)

    def _soon(self, target: Target, message_id: str, turn: str, tries: int) -> None:
        if target.platform in self._adapters:
            self._tasks.job(self._take_back(target, message_id, turn, tries), f"take {message_id} back")

    async def _take_back(self, target: Target, message_id: str, turn: str, tries: int) -> None:
        try:
            await self._call(target, message_id)
        except (Retry, Uncertain) as error:
            if tries > 1:
                loop = asyncio.get_running_loop()
                loop.call_later(error.after, self._soon, target, message_id, turn, tries - 1)
            else:
                log.info("cannot take message %s back: %s", message_id, error)  # a later start tries it again
            return
        except AdapterError as error:
            log.info("message %s stays: %s", message_id, error)
        if turn:
            await self._persistence.keep(progress.forget, turn, message_id)

    async def _call(self, target: Target, message_id: str) -> None:
        adapter = self._adapters.get(target.platform)
        if (deleter := capability(adapter, CanDelete)) is not None:
            await deleter.delete(target, message_id)
        elif (editor := capability(adapter, CanEdit)) is not None:
            await editor.edit(target, message_id, Outbound(message_id, NOTHING, kind="progress", final=False))
