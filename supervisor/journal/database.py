"""Opening the file: settings of each connection, schema upgrades with a backup first, and checking on demand."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from .errors import JournalError, JournalUnavailable, NewerSchema, NotAJournal
from .migrations import MIGRATIONS, Migration

OLDEST_SQLITE = (3, 24, 0)  # the first with ON CONFLICT DO UPDATE
BUSY_TIMEOUT_MS = 5000  # somebody's sqlite3 shell may hold a lock for a moment

# Primary result codes (the low byte of the extended code) that speak of the disk or of the machine, not of the
# statement: https://www.sqlite.org/rescode.html
_DISK_CODES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)


def is_unavailable(error: BaseException) -> bool:
    """Whether the error is the disk's (try again later), not the operation's (a bug, or a refused row)."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _DISK_CODES


def describe(error: BaseException) -> str:
    """``database or disk is full (SQLITE_FULL)``."""
    name = getattr(error, "sqlite_errorname", "")
    return f"{error} ({name})" if name else str(error) or type(error).__name__


def open_for_writing(path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> sqlite3.Connection:
    """The one connection that writes, its schema brought up to date. Belongs to the thread that calls this.

    Raises `NewerSchema`, `NotAJournal` or `JournalUnavailable`; in each case the file is as it was.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(map(str, OLDEST_SQLITE))
        raise JournalError(f"cannot use SQLite {sqlite3.sqlite_version}: hermesd needs {needed} or later")
    connection: sqlite3.Connection | None = None
    try:
        # SQLite would create it with the umask's rights, and gives -wal and -shm the rights that it finds here.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None)
        connection.row_factory = sqlite3.Row
        _require_ours(connection, path, len(migrations))
        _set_up_writer(connection, path)
        migrate(connection, path, migrations)
    except (sqlite3.Error, OSError) as error:
        _close(connection)
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_NOTADB:
            raise NotAJournal(f"cannot open {path}: it is not a SQLite database") from error
        raise JournalUnavailable(f"cannot open the journal {path}: {describe(error)}") from error
    except JournalError:
        _close(connection)
        raise
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that cannot write and never checkpoints. Belongs to the thread that calls this."""
    try:
        connection = sqlite3.connect(
            path.absolute().as_uri() + "?mode=ro", uri=True, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None
        )
    except sqlite3.Error as error:
        raise JournalUnavailable(f"cannot open the journal {path} for reading: {describe(error)}") from error
    connection.row_factory = sqlite3.Row
    return connection


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    """Bring the schema up to date: all steps or none, and a copy of the old file first.

    A new file needs no copy. The copy is ``<name>.schema-<n>.backup`` beside the file.
    """
    found = schema_version(connection)
    if found == len(migrations):
        return
    if found > 0:
        back_up(connection, path.with_name(f"{path.name}.schema-{found}.backup"))
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in migrations[found:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def back_up(connection: sqlite3.Connection, target: Path) -> None:
    """A consistent copy of the whole database as ``target``, on disk when this returns; replaces an older one."""
    unfinished = target.with_name(target.name + ".part")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        copy = sqlite3.connect(unfinished)
        try:
            connection.backup(copy)
        finally:
            copy.close()
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(unfinished, target)


def give_back_room(connection: sqlite3.Connection) -> None:
    """Fold the -wal file into the database, where it takes less room, and cut it: SQLite does so by itself only after
    a commit, which a full disk refuses. Quietly does nothing where there is no room for that either.
    """
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        if not is_unavailable(error):
            raise


def schema_version(connection: sqlite3.Connection) -> int:
    """0 for a new file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check(connection: sqlite3.Connection, *, full: bool = False) -> list[str]:
    """What is wrong with the file, one sentence each; empty = sound. Reads all of it: seconds per gigabyte.

    ``full`` compares the indexes with their tables besides.
    """
    pragma = "integrity_check" if full else "quick_check"
    found: list[str] = []
    try:
        found.extend(str(row[0]) for row in connection.execute(f"PRAGMA {pragma}"))
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        found.append(describe(error))  # too broken to be read to its end
    return [] if found == ["ok"] else found


def _require_ours(connection: sqlite3.Connection, path: Path, known: int) -> None:
    found = schema_version(connection)
    if found > known:
        raise NewerSchema(path, found, known)
    if found == 0 and connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        raise NotAJournal(f"cannot open {path}: it is a database of another program")


def _set_up_writer(connection: sqlite3.Connection, path: Path) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        # WAL needs shared memory, which network file systems do not have.
        raise JournalError(f"cannot open {path}: its file system cannot do SQLite's WAL mode (it offers {mode!r})")
    for pragma in (
        "synchronous = FULL",  # of this connection only: each commit is synced before it is acknowledged
        "fullfsync = ON",  # macOS: fsync() leaves data in the drive's cache, F_FULLFSYNC does not
        "checkpoint_fullfsync = ON",
        "foreign_keys = ON",  # of this connection only, and off by default
        "journal_size_limit = 67108864",  # gives the disk back what one big transaction made the -wal file grow to
    ):
        connection.execute(f"PRAGMA {pragma}")


def _close(connection: sqlite3.Connection | None) -> None:
    if connection is not None:
        connection.close()
