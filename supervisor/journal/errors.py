"""What can go wrong with the journal, by what the caller may do next."""

from __future__ import annotations

from pathlib import Path


class JournalError(Exception):
    """Base of every error of this package."""


class JournalUnavailable(JournalError):
    """The disk did not take it (full, I/O error, locked by another program); nothing of the operation was kept.

    The same call may be made again: the journal goes on by itself as soon as the disk does. Do not confirm to a
    platform what ended in this.
    """


class JournalClosed(JournalError):
    """The journal is not open: before `Journal.open`, after `Journal.close`."""


class NewerSchema(JournalError):
    """A later hermesd has written this file. hermesd exits 78; nothing was changed."""

    def __init__(self, path: Path, found: int, known: int):
        super().__init__(
            f"cannot open {path}: it has schema {found}, this hermesd knows up to {known}; "
            "start the newer hermesd again, or put back the backup that it made beside the file"
        )
        self.path = path
        self.found = found
        self.known = known


class NotAJournal(JournalError):
    """The file is something else; nothing was changed."""


class IllegalTransition(JournalError):
    """The row's state does not allow this step; nothing was changed. A bug of the caller, or a late echo."""


class UnknownRow(JournalError):
    """There is no such row."""
