from __future__ import annotations

import sqlite3

import pytest

from hermesd.ipc.messages import Entry
from hermesd.supervisor.journal import sessions, transcripts
from hermesd.supervisor.journal.rows import Origin, TranscriptRow


@pytest.fixture
def session_id(connection: sqlite3.Connection) -> str:
    return sessions.get_or_create(connection, "key", Origin("fake", "c1"), 100.0).session_id


def texts(rows: list[TranscriptRow]) -> list[str]:
    return [row.entry.text for row in rows]


def test_entries_come_out_oldest_first_with_their_turn(connection: sqlite3.Connection, session_id: str) -> None:
    transcripts.append(connection, session_id, [Entry("user", "1", 5.0), Entry("assistant", "2", 6.0)], turn="t1")
    transcripts.append(connection, session_id, [Entry("user", "3", 7.0)], turn="t2")
    assert transcripts.load(connection, session_id) == [
        TranscriptRow(session_id, 1, Entry("user", "1", 5.0), "t1"),
        TranscriptRow(session_id, 2, Entry("assistant", "2", 6.0), "t1"),
        TranscriptRow(session_id, 3, Entry("user", "3", 7.0), "t2"),
    ]


def test_a_limit_keeps_the_newest(connection: sqlite3.Connection, session_id: str) -> None:
    transcripts.append(connection, session_id, [Entry("user", str(number)) for number in range(10)])
    assert texts(transcripts.load(connection, session_id, 3)) == ["7", "8", "9"]
    assert transcripts.load(connection, session_id, 0) == []


def test_cutting_a_turn_takes_back_what_it_left_and_all_after_it(
    connection: sqlite3.Connection, session_id: str
) -> None:
    transcripts.append(connection, session_id, [Entry("user", "a"), Entry("assistant", "b")], turn="t1")
    transcripts.append(connection, session_id, [Entry("user", "c"), Entry("assistant", "d")], turn="t2")
    transcripts.append(connection, session_id, [Entry("system", "e")])
    assert transcripts.cut_turn(connection, session_id, "t2") == 3
    assert texts(transcripts.load(connection, session_id)) == ["a", "b"]
    transcripts.append(connection, session_id, [Entry("user", "c")])
    assert [row.seq for row in transcripts.load(connection, session_id)] == [1, 2, 3]


def test_cutting_a_turn_that_left_nothing_takes_nothing(connection: sqlite3.Connection, session_id: str) -> None:
    transcripts.append(connection, session_id, [Entry("user", "a"), Entry("assistant", "b")], turn="t1")
    assert transcripts.cut_turn(connection, session_id, "t2") == 0
    assert texts(transcripts.load(connection, session_id)) == ["a", "b"]


def test_an_entry_of_no_session_is_refused(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        transcripts.append(connection, "nowhere", [Entry("user", "a")])
