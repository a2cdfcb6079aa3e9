from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from hermesd.supervisor.journal import Journal, JournalClosed, JournalUnavailable, NewerSchema, meta, writer
from hermesd.supervisor.journal.database import open_for_writing
from hermesd.supervisor.journal.migrations import MIGRATIONS
from hermesd.supervisor.journal.writer import MAX_GROUP, Job, Writer


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    opened = Journal(path)
    await opened.open()
    yield opened
    await opened.close()


class Gate:
    """An operation that keeps the journal's thread busy, so that what is written meanwhile becomes one group."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.released = threading.Event()

    def __call__(self, connection: sqlite3.Connection) -> None:
        self.entered.set()
        assert self.released.wait(10)


def all_keys(connection: sqlite3.Connection) -> set[str]:
    return {row["key"] for row in connection.execute("SELECT key FROM meta")}


async def test_a_write_gives_its_result_once_another_connection_can_see_it(journal: Journal) -> None:
    def put(connection: sqlite3.Connection, key: str, *, value: str) -> str:
        meta.put(connection, key, value)
        return f"{key}={value}"

    assert await journal.write(put, "a", value="1") == "a=1"
    with closing(sqlite3.connect(journal.path)) as other:
        assert other.execute("SELECT value FROM meta WHERE key = 'a'").fetchone() == ("1",)


async def test_writes_and_reads_never_run_on_the_event_loops_thread(journal: Journal) -> None:
    name = await journal.write(lambda connection: threading.current_thread().name)
    assert name == "journal"
    reader = await journal.read(lambda connection: threading.current_thread())
    assert reader.name.startswith("journal-reader")
    assert reader is not threading.current_thread()


async def test_what_is_queued_during_a_commit_goes_into_one_transaction(journal: Journal) -> None:
    gate = Gate()
    first = journal.write(gate)
    await asyncio.to_thread(gate.entered.wait, 10)
    rest = [journal.write(meta.put, str(number), "") for number in range(100)]
    gate.released.set()
    await asyncio.gather(first, *rest)

    assert (journal.statistics.groups, journal.statistics.largest_group) == (2, 100)
    assert journal.statistics.writes == 101


async def test_a_group_is_bounded(journal: Journal) -> None:
    gate = Gate()
    first = journal.write(gate)
    await asyncio.to_thread(gate.entered.wait, 10)
    rest = [journal.write(meta.put, str(number), "") for number in range(MAX_GROUP + 1)]
    gate.released.set()
    await asyncio.gather(first, *rest)

    assert (journal.statistics.groups, journal.statistics.largest_group) == (3, MAX_GROUP)


async def test_operations_run_in_the_order_of_the_calls(journal: Journal) -> None:
    seen: list[int] = []
    await asyncio.gather(*(journal.write(lambda _, number=number: seen.append(number)) for number in range(2000)))
    assert seen == list(range(2000))


async def test_an_operation_that_raises_leaves_no_trace_and_spares_the_others_of_its_group(journal: Journal) -> None:
    def half(connection: sqlite3.Connection) -> None:
        meta.put(connection, "half", "")
        raise LookupError("no")

    def twice(connection: sqlite3.Connection) -> None:
        meta.put(connection, "twice", "")
        connection.execute("INSERT INTO meta VALUES ('twice', '')")

    gate = Gate()
    first = journal.write(gate)
    await asyncio.to_thread(gate.entered.wait, 10)
    before = journal.write(meta.put, "before", "")
    broken = [journal.write(half), journal.write(twice), journal.write(lambda _: next(iter([])))]
    after = journal.write(meta.put, "after", "")
    gate.released.set()
    await asyncio.gather(first, before, after)

    errors = await asyncio.gather(*broken, return_exceptions=True)
    assert [type(error) for error in errors] == [LookupError, sqlite3.IntegrityError, RuntimeError]
    assert await journal.read(all_keys) == {"before", "after"}
    assert journal.statistics.largest_group == 5
    assert journal.statistics.refused == 3
    assert journal.state.word == "ok"


async def test_a_caller_that_was_cancelled_does_not_take_its_write_back(journal: Journal) -> None:
    gate = Gate()
    first = journal.write(gate)
    await asyncio.to_thread(gate.entered.wait, 10)
    cancelled = journal.write(meta.put, "cancelled", "")
    cancelled.cancel()
    same_group = journal.write(meta.put, "same group", "")
    gate.released.set()
    await asyncio.wait_for(asyncio.gather(first, same_group), 10)
    assert await journal.read(all_keys) == {"cancelled", "same group"}


async def test_a_read_sees_one_moment_also_while_others_write(journal: Journal) -> None:
    counted, written = threading.Event(), threading.Event()

    def count_twice(connection: sqlite3.Connection) -> tuple[int, int]:
        first = len(all_keys(connection))
        counted.set()
        assert written.wait(10)
        return first, len(all_keys(connection))

    reading = journal.read(count_twice)
    await asyncio.to_thread(counted.wait, 10)
    await journal.write(meta.put, "new", "")
    written.set()
    assert await reading == (0, 0)
    assert await journal.read(all_keys) == {"new"}


async def test_a_read_that_raises_does_not_disturb_the_next(journal: Journal) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        await journal.read(lambda connection: connection.execute("SELECT * FROM nowhere"))
    assert await journal.read(all_keys) == set()


async def test_close_writes_what_was_queued_and_folds_the_log_in(journal: Journal) -> None:
    await journal.read(all_keys)
    waiting = [journal.write(meta.put, str(number), "") for number in range(50)]
    await journal.close()
    await asyncio.gather(*waiting)

    assert [file.name for file in journal.path.parent.iterdir()] == ["state.db"]
    with closing(open_for_writing(journal.path)) as connection:
        assert len(all_keys(connection)) == 50
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("journal")]


async def test_a_stop_that_is_queued_behind_a_group_ends_the_thread_after_it(path: Path) -> None:
    writer = Writer(path, MIGRATIONS)
    await writer.start()
    gate = Gate()
    loop = asyncio.get_running_loop()
    jobs = [Job(gate, loop.create_future()), Job(all_keys, loop.create_future())]
    writer.put(jobs[0])
    await asyncio.to_thread(gate.entered.wait, 10)
    writer.put(jobs[1])
    stopping = asyncio.create_task(writer.stop())
    await asyncio.sleep(0)  # the task has run to its first wait: the stop is queued
    gate.released.set()
    await asyncio.wait_for(stopping, 10)
    assert jobs[1].future.result() == set()


async def test_a_closed_journal_says_so_and_can_be_opened_again(journal: Journal) -> None:
    await journal.write(meta.put, "a", "1")
    await journal.close()
    await journal.close()
    with pytest.raises(JournalClosed, match="cannot write"):
        journal.write(meta.put, "a", "2")
    with pytest.raises(JournalClosed, match="cannot read"):
        journal.read(meta.get, "a")
    assert journal.state.word == "failing"

    await journal.open()
    assert await journal.read(meta.get, "a") == "1"
    assert journal.state.word == "ok"


async def test_an_open_that_fails_leaves_no_thread_and_no_open_journal(path: Path) -> None:
    open_for_writing(path, (*MIGRATIONS, ("CREATE TABLE later (id INTEGER)",))).close()
    journal = Journal(path)
    with pytest.raises(NewerSchema):
        await journal.open()
    with pytest.raises(JournalClosed):
        journal.write(meta.put, "a", "1")
    for thread in threading.enumerate():
        if thread.name.startswith("journal"):
            thread.join(10)
            assert not thread.is_alive()


async def test_a_sound_file_passes_the_check(journal: Journal) -> None:
    await journal.write(meta.put, "a", "1")
    assert await journal.check() == []
    assert await journal.check(full=True) == []


async def test_a_lock_of_another_program_fails_the_write_and_the_next_one_succeeds_by_itself(path: Path) -> None:
    times = iter([10.0, 20.0, 30.0])
    journal = Journal(path, clock=lambda: next(times))
    await journal.open()
    await journal.write(lambda connection: connection.execute("PRAGMA busy_timeout = 1").fetchone())
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(2):
                with pytest.raises(JournalUnavailable, match="database is locked") as failed:
                    await journal.write(meta.put, "locked", "")
                assert isinstance(failed.value.__cause__, sqlite3.OperationalError)
                assert (journal.state.word, journal.state.since) == ("failing", 20.0)
                assert "SQLITE_BUSY" in journal.state.reason

        await journal.write(meta.put, "free", "")
        assert (journal.state.word, journal.state.since) == ("ok", 30.0)
        assert await journal.read(all_keys) == {"free"}
        assert journal.statistics.failed == 2
    finally:
        await journal.close()


async def test_an_error_of_the_disk_fails_the_whole_group_and_keeps_nothing_of_it(journal: Journal) -> None:
    """``max_page_count`` makes SQLite itself report a full disk (SQLITE_FULL), in mid-operation."""

    def fill(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()
        connection.execute("INSERT INTO meta VALUES ('huge', ?)", ("x" * 1_000_000,))

    gate = Gate()
    first = journal.write(gate)
    await asyncio.to_thread(gate.entered.wait, 10)
    group = [journal.write(meta.put, "before", ""), journal.write(fill), journal.write(meta.put, "after", "")]
    gate.released.set()
    await first
    errors = await asyncio.gather(*group, return_exceptions=True)

    assert [type(error) for error in errors] == [JournalUnavailable] * 3
    assert len({id(error) for error in errors}) == 3
    assert "database or disk is full" in str(errors[0])
    assert await journal.read(all_keys) == set()
    assert (journal.state.word, journal.statistics.failed) == ("failing", 3)

    await journal.write(meta.put, "small", "")
    assert await journal.read(all_keys) - {writer.PROBE} == {"small"}
    assert journal.state.word == "ok"


async def test_while_the_disk_takes_nothing_the_thread_looks_for_room_by_itself(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PROBE_SECONDS", 0.01)

    def fill(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()
        connection.execute("INSERT INTO meta VALUES ('huge', ?)", ("x" * 1_000_000,))

    with pytest.raises(JournalUnavailable):
        await journal.write(fill)
    assert journal.state.word == "failing"
    async with asyncio.timeout(10):
        while journal.state.word != "ok":
            await asyncio.sleep(0.001)
    assert await journal.read(meta.get, writer.PROBE) is not None


async def test_an_error_that_left_the_transaction_open_is_rolled_back(journal: Journal) -> None:
    """A lock that an operation runs into leaves SQLite's transaction as it is, other than a full disk."""

    def locked(connection: sqlite3.Connection) -> None:
        meta.put(connection, "half", "")
        with closing(sqlite3.connect(journal.path, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")

    with pytest.raises(JournalUnavailable, match="database is locked"):
        await journal.write(locked)
    await journal.write(meta.put, "next", "")
    assert await journal.read(all_keys) == {"next"}


async def test_a_bug_that_ends_the_thread_fails_what_waits_instead_of_leaving_it_waiting(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug of the writer")

    gate = Gate()
    first = journal.write(gate)
    await asyncio.to_thread(gate.entered.wait, 10)
    monkeypatch.setattr("hermesd.supervisor.journal.writer.Writer._note_success", broken)
    second = journal.write(meta.put, "a", "")
    gate.released.set()

    errors = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(error) for error in errors] == [JournalUnavailable] * 2
    assert "a bug of the writer" in journal.state.reason
    assert "the journal's thread ended" in caplog.text
    with pytest.raises(JournalClosed):
        journal.write(meta.put, "b", "")
