"""The thread that owns the writing connection, and group commit.

A commit with ``synchronous=FULL`` costs one flush of the disk, whatever it holds. So everything that was queued while
the last commit ran goes into one transaction together; nothing is ever delayed to make a group larger. Each operation
has a savepoint of its own: one that raises leaves no trace and does not disturb the others of its group.

While the disk takes nothing, the thread tries by itself whether there is room again, so that `Writer.state` tells the
truth also when nobody writes.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import meta
from .database import describe, give_back_room, is_unavailable, open_for_writing
from .errors import JournalClosed, JournalUnavailable
from .migrations import Migration

log = logging.getLogger(__name__)

MAX_GROUP = 512  # operations in one transaction: bounds how long the first of them waits for the last

PROBE_SECONDS = 1.0
"""Between tries of the thread's own while the disk takes nothing."""

PROBE = "room_found_at"
"""The row of the meta table that such a try writes."""


@dataclass(frozen=True, slots=True)
class JournalState:
    """Whether writes reach the disk, for ``hermesctl status``; ``since`` in Unix seconds."""

    word: str  # "ok" | "failing"
    reason: str = ""
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the writer has done since it was opened. ``writes / groups`` says how much group commit gains."""

    writes: int = 0  # operations committed
    groups: int = 0  # transactions committed
    largest_group: int = 0
    refused: int = 0  # operations that raised by themselves
    failed: int = 0  # operations that the disk did not take


@dataclass(frozen=True, slots=True)
class Job:
    """One operation and where its result goes."""

    run: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


_Outcome = tuple["asyncio.Future[Any]", Any]  # the result, or _Raised


class Writer:
    """The thread. Made, started and stopped by `hermesd.supervisor.journal.Journal`, on its event loop."""

    def __init__(self, path: Path, migrations: Sequence[Migration], clock: Callable[[], float] = time.time):
        self.state = JournalState("ok")
        self.statistics = Statistics()
        self._path = path
        self._migrations = migrations
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._stopping = False
        # A daemon: an interpreter that ends without `stop` must not wait for it. What it acknowledged is on disk.
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    async def start(self) -> None:
        """Open the file; raises what `open_for_writing` raises."""
        self._thread.start()
        await self._opened
        self.state = JournalState("ok", since=self._clock())

    def put(self, job: Job) -> None:
        """Queue an operation, in the order of the calls. Raises `JournalClosed`."""
        if self._stopping:
            raise JournalClosed(f"cannot write to the journal {self._path}: it is closed")
        self._jobs.put(job)

    async def stop(self) -> None:
        """Write what is queued, close the file, end the thread."""
        if not self._stopping:
            self._stopping = True
            self._jobs.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()

    def _abandon(self, group: list[Job], error: BaseException) -> None:
        """The thread has ended before its time: nothing more will be written. On the loop, as `put` is."""
        self._stopping = True
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None:
                group.append(job)
        _resolve([(job.future, _Raised(self._unavailable(error))) for job in group])

    # ---- on the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            connection = open_for_writing(self._path, self._migrations)
        except BaseException as error:  # noqa: BLE001 - the thread's edge: it belongs to the caller of `start`
            self._deliver([(self._opened, _Raised(error)), (self._ended, None)])
            return
        self._deliver([(self._opened, None)])
        group: list[Job] | None = []
        try:
            while (group := self._next_group()) is not None:
                if group:
                    self._deliver(self._commit(connection, group))
                else:
                    self._probe(connection)
        except BaseException as error:
            log.exception("the journal's thread ended")
            self._note_failure(error, 0)
            self._loop.call_soon_threadsafe(self._abandon, group or [], error)
        finally:
            try:
                connection.close()
            except sqlite3.Error:
                log.exception("cannot close the journal %s", self._path)
            self._deliver([(self._ended, None)])

    def _next_group(self) -> list[Job] | None:
        """Wait for work and take all of it. Empty when it is time to look for room, None when there is no more."""
        try:
            job = self._jobs.get(timeout=None if self.state.word == "ok" else PROBE_SECONDS)
        except queue.Empty:
            return []
        group: list[Job] = []
        while job is not None:
            group.append(job)
            if len(group) == MAX_GROUP:
                return group
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return group
        if not group:
            return None
        self._jobs.put(None)  # the end is seen again, after this group
        return group

    def _probe(self, connection: sqlite3.Connection) -> None:
        """Try to write something of our own."""
        try:
            give_back_room(connection)
            connection.execute("BEGIN IMMEDIATE")
            meta.put(connection, PROBE, str(self._clock()))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(connection)
            self._note_failure(error, 0)
        else:
            self._note_success([])

    def _commit(self, connection: sqlite3.Connection, group: list[Job]) -> list[_Outcome]:
        try:
            connection.execute("BEGIN IMMEDIATE")
            outcomes = [(job.future, self._apply(connection, job)) for job in group]
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(connection)
            self._note_failure(error, len(group))
            return [(job.future, _Raised(self._unavailable(error))) for job in group]
        self._note_success(outcomes)
        return outcomes

    @staticmethod
    def _apply(connection: sqlite3.Connection, job: Job) -> Any:
        """Run one operation; an error of the disk passes, for it ends the group."""
        connection.execute("SAVEPOINT operation")
        try:
            result = job.run(connection)
        except BaseException as error:
            if is_unavailable(error):
                raise
            connection.execute("ROLLBACK TO operation")
            result = _Raised(error if not isinstance(error, StopIteration) else _storable(error))
        connection.execute("RELEASE operation")
        return result

    @staticmethod
    def _roll_back(connection: sqlite3.Connection) -> None:
        # After SQLITE_FULL, SQLITE_IOERR and the like SQLite may have rolled back by itself, or not.
        if connection.in_transaction:
            try:
                connection.execute("ROLLBACK")
            except sqlite3.Error:
                log.exception("cannot roll back the journal")

    def _unavailable(self, error: BaseException) -> JournalUnavailable:
        unavailable = JournalUnavailable(f"cannot write to the journal {self._path}: {describe(error)}")
        unavailable.__cause__ = error
        return unavailable

    def _note_failure(self, error: BaseException, operations: int) -> None:
        done = self.statistics
        self.statistics = Statistics(
            done.writes, done.groups, done.largest_group, done.refused, done.failed + operations
        )
        reason = describe(error)
        if self.state.word == "ok":
            log.error("cannot write to the journal %s: %s", self._path, reason)
            self.state = JournalState("failing", reason, self._clock())
        else:
            self.state = JournalState("failing", reason, self.state.since)

    def _note_success(self, outcomes: list[_Outcome]) -> None:
        done = self.statistics
        refused = sum(isinstance(result, _Raised) for _, result in outcomes)
        self.statistics = Statistics(
            done.writes + len(outcomes) - refused,
            done.groups + 1,
            max(done.largest_group, len(outcomes)),
            done.refused + refused,
            done.failed,
        )
        if self.state.word != "ok":
            now = self._clock()
            log.warning("the journal %s can be written again, after %.0f s", self._path, now - self.state.since)
            self.state = JournalState("ok", since=now)

    def _deliver(self, outcomes: list[_Outcome]) -> None:
        """One wake-up of the event loop for a whole group."""
        try:
            self._loop.call_soon_threadsafe(_resolve, outcomes)
        except RuntimeError:
            log.warning("the event loop ended before the journal was closed; %d results had no taker", len(outcomes))


def _storable(error: StopIteration) -> RuntimeError:
    # A future refuses StopIteration, for it would end the coroutine that waits for it.
    stored = RuntimeError("the operation raised StopIteration")
    stored.__cause__ = error
    return stored


def _resolve(outcomes: list[_Outcome]) -> None:
    for future, result in outcomes:
        if future.done():  # its caller was cancelled
            continue
        if isinstance(result, _Raised):
            future.set_exception(result.error)
        else:
            future.set_result(result)
