"""The journal as the rest of the supervisor sees it: awaitable, and never on the event loop's own thread."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from .database import check, describe, is_unavailable, open_for_reading
from .errors import JournalClosed, JournalUnavailable
from .migrations import MIGRATIONS, Migration
from .writer import Job, JournalState, Statistics, Writer

P = ParamSpec("P")
T = TypeVar("T")


class Journal:
    """One SQLite file with one writer. Whoever opens it holds the instance's lock: nobody else does.

    Made by ``supervisor/app.py``; all methods belong to the event loop on which `open` was awaited.
    """

    def __init__(
        self,
        path: Path,
        *,
        migrations: Sequence[Migration] = MIGRATIONS,
        clock: Callable[[], float] = time.time,
    ):
        self.path = path
        self._migrations = migrations
        self._clock = clock
        self._writer: Writer | None = None
        self._reader: ThreadPoolExecutor | None = None
        self._reading: sqlite3.Connection | None = None  # touched on the reader's thread only

    async def open(self) -> None:
        """Open the file (its folder must be there), upgrade its schema if it is older.

        Raises `NewerSchema`, `NotAJournal` or `JournalUnavailable`.
        """
        writer = Writer(self.path, self._migrations, self._clock)
        await writer.start()
        self._writer = writer
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal-reader")

    async def close(self) -> None:
        """Write what was queued before, then close. Harmless when it is not open."""
        reader, self._reader = self._reader, None
        if reader is not None:
            # The reader first: only the last connection to leave may fold the -wal file in, and it cannot.
            await asyncio.get_running_loop().run_in_executor(reader, self._close_reading)
            reader.shutdown()
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.stop()

    def write(
        self,
        operation: Callable[Concatenate[sqlite3.Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> asyncio.Future[T]:
        """Run ``operation(connection, ...)`` in the next transaction; done once that is committed to the disk.

        Operations run in the order of the calls, each all or nothing, on the journal's thread: they must touch nothing
        but the connection and their arguments, and must not commit. What an operation raises comes out here;
        `JournalUnavailable` when the disk did not take it. An operation runs even if nobody waits for it any more.
        """
        if self._writer is None:
            raise JournalClosed(f"cannot write to the journal {self.path}: it is not open")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._writer.put(Job(lambda connection: operation(connection, *args, **kwargs), future))
        return future

    def read(
        self,
        operation: Callable[Concatenate[sqlite3.Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> asyncio.Future[T]:
        """Run ``operation(connection, ...)`` on a thread and a read-only connection of their own.

        It sees one moment of the journal, with every write that was done before the call. A long read delays other
        reads and no write.
        """
        if self._reader is None:
            raise JournalClosed(f"cannot read the journal {self.path}: it is not open")
        return asyncio.get_running_loop().run_in_executor(
            self._reader, self._read, lambda connection: operation(connection, *args, **kwargs)
        )

    async def check(self, *, full: bool = False) -> list[str]:
        """What is wrong with the file; empty = sound. For ``hermesctl doctor``: reads the whole file."""
        return await self.read(check, full=full)

    @property
    def state(self) -> JournalState:
        """Whether writes reach the disk, by the last one that tried."""
        return self._writer.state if self._writer else JournalState("failing", "not open")

    @property
    def statistics(self) -> Statistics:
        """Counters since `open`."""
        return self._writer.statistics if self._writer else Statistics()

    # ---- on the reader's thread ---------------------------------------------------------------------------------

    def _read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        if self._reading is None:
            self._reading = open_for_reading(self.path)
        try:
            self._reading.execute("BEGIN")
            try:
                return operation(self._reading)
            finally:
                if self._reading.in_transaction:
                    self._reading.execute("ROLLBACK")
        except sqlite3.Error as error:
            if not is_unavailable(error):
                raise
            raise JournalUnavailable(f"cannot read the journal {self.path}: {describe(error)}") from error

    def _close_reading(self) -> None:
        if self._reading is not None:
            self._reading.close()
            self._reading = None
