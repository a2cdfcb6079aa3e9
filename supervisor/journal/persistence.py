"""Writing that must not be given up: again and again until the disk has it, in the order of the calls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from hermesd.supervisor.tasks import Tasks

from .errors import JournalError, JournalUnavailable
from .journal import Journal

log = logging.getLogger("hermesd.journal")

RETRY_SECONDS = 1.0
"""Between tries while the disk takes nothing; what is to be written waits in memory meanwhile."""


class Persistence:
    """For steps that have happened already and only have to be written down."""

    def __init__(self, journal: Journal, tasks: Tasks):
        self._journal = journal
        self._tasks = tasks

    def write(self, operation: Any, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Write until the disk has it; the first try is queued before this returns, so that order is kept.

        Raises, once awaited, what the operation itself refuses (`JournalError`).
        """
        return self._written(self._journal.write(operation, *args, **kwargs), False, operation, args, kwargs)

    def keep(self, operation: Any, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """The same for a caller who can do nothing about a refusal, which is a fault of ours: it is logged with its
        cause, and the result is None.
        """
        return self._written(self._journal.write(operation, *args, **kwargs), True, operation, args, kwargs)

    def persist(self, operation: Any, *args: Any, **kwargs: Any) -> None:
        """`keep` in the background."""
        self._tasks.job(self.keep(operation, *args, **kwargs), operation.__name__)

    async def _written(
        self,
        written: asyncio.Future[Any],
        swallow: bool,
        operation: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        while True:
            try:
                return await written
            except JournalUnavailable as error:
                log.debug("%s waits: %s", operation.__name__, error)  # the writer has said once what is the matter
                await asyncio.sleep(RETRY_SECONDS)
                written = self._journal.write(operation, *args, **kwargs)
            except JournalError:
                if not swallow:
                    raise
                log.exception("cannot write %s%r down", operation.__name__, args)
                return None
