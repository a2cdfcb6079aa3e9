from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from hermesd.supervisor.journal import JournalUnavailable, NewerSchema, NotAJournal, meta
from hermesd.supervisor.journal.database import check, open_for_reading, open_for_writing, schema_version
from hermesd.supervisor.journal.migrations import MIGRATIONS


def test_the_writing_connection_syncs_every_commit_and_keeps_references(connection: sqlite3.Connection) -> None:
    settings = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "fullfsync")
    }
    full = 2
    assert settings == {
        "journal_mode": "wal",
        "synchronous": full,
        "foreign_keys": 1,
        "busy_timeout": 5000,
        "fullfsync": 1,
    }


@pytest.mark.skipif(os.name != "posix", reason="file rights are POSIX's")
def test_only_its_owner_can_read_the_file_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        with closing(open_for_writing(path)) as connection:
            meta.put(connection, "a", "b")
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}


def test_a_new_file_has_the_newest_schema_and_no_backup(path: Path) -> None:
    with closing(open_for_writing(path)) as connection:
        assert schema_version(connection) == len(MIGRATIONS)
        assert check(connection, full=True) == []
    assert os.listdir(path.parent) == ["state.db"]


def test_an_older_file_is_upgraded_and_a_copy_of_it_is_kept(path: Path) -> None:
    with closing(open_for_writing(path, MIGRATIONS)) as connection:
        meta.put(connection, "kept", "yes")
    next_step = ("CREATE TABLE later (id INTEGER)", "INSERT INTO later SELECT COUNT(*) FROM meta")

    with closing(open_for_writing(path, (*MIGRATIONS, next_step))) as connection:
        assert schema_version(connection) == len(MIGRATIONS) + 1
        assert connection.execute("SELECT id FROM later").fetchone()[0] == 1
        assert meta.get(connection, "kept") == "yes"

    backup = path.with_name(f"state.db.schema-{len(MIGRATIONS)}.backup")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with closing(open_for_writing(backup)) as connection:
        assert meta.get(connection, "kept") == "yes"


def test_an_upgrade_that_fails_in_its_last_statement_changes_nothing(path: Path) -> None:
    with closing(open_for_writing(path)) as connection:
        meta.put(connection, "kept", "yes")
    broken = ("CREATE TABLE later (id INTEGER)", "DROP TABLE meta", "SELECT * FROM nowhere")

    with pytest.raises(JournalUnavailable, match=r"cannot open the journal .*no such table: nowhere"):
        open_for_writing(path, (*MIGRATIONS, ("CREATE TABLE sooner (id INTEGER)",), broken))

    with closing(open_for_writing(path)) as connection:
        assert schema_version(connection) == len(MIGRATIONS)
        assert meta.get(connection, "kept") == "yes"
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        assert not names & {"later", "sooner"}


def test_a_newer_schema_is_refused_and_left_as_it_is(path: Path) -> None:
    later = (*MIGRATIONS, ("CREATE TABLE later (id INTEGER)",))
    open_for_writing(path, later).close()
    before = path.read_bytes()

    with pytest.raises(NewerSchema, match=rf"it has schema {len(later)}, .* knows up to {len(MIGRATIONS)}") as refused:
        open_for_writing(path)

    assert (refused.value.found, refused.value.known) == (len(later), len(MIGRATIONS))
    assert path.read_bytes() == before


def test_a_database_of_another_program_is_refused_and_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE messages (id INTEGER)")
    before = path.read_bytes()

    with pytest.raises(NotAJournal, match="database of another program"):
        open_for_writing(path)

    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_text("# my notes\n" * 100)

    with pytest.raises(NotAJournal, match="not a SQLite database"):
        open_for_writing(path)

    assert path.read_text() == "# my notes\n" * 100


def test_a_folder_that_is_missing_is_told_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(JournalUnavailable, match=r"nowhere/state\.db: .*No such file or directory"):
        open_for_writing(tmp_path / "nowhere" / "state.db")


@pytest.mark.parametrize("garbage", [b"\xff" * 4096, b"\0" * 4096], ids=["garbage", "zeros"])
def test_a_torn_page_is_found_by_the_check(path: Path, garbage: bytes) -> None:
    with closing(open_for_writing(path)) as connection:
        connection.execute("BEGIN")
        for number in range(2000):
            meta.put(connection, f"key {number:06}", "x" * 50)
        connection.execute("COMMIT")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096] = garbage
    path.write_bytes(data)

    with closing(open_for_reading(path)) as connection:
        assert check(connection) != []
        assert check(connection, full=True) != []


def test_the_reading_connection_cannot_write(path: Path, connection: sqlite3.Connection) -> None:
    with closing(open_for_reading(path)) as reading, pytest.raises(sqlite3.OperationalError, match="readonly"):
        meta.put(reading, "a", "b")


def test_a_path_with_the_special_characters_of_a_uri_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c%20d é.db"
    with closing(open_for_writing(path)) as writing, closing(open_for_reading(path)) as reading:
        meta.put(writing, "a", "b")
        assert meta.get(reading, "a") == "b"
