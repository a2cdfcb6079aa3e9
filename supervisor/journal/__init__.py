"""What must outlive the supervisor: inbox, outbox, sessions, transcripts and turns, in one SQLite file.

`Journal` owns the file. The modules beside it hold one table family each, as functions ``(connection, ...) -> value``
that `Journal.write` and `Journal.read` run: ``row = await journal.write(inbox.receive, inbound, now)``.
"""

from .errors import (
    IllegalTransition,
    JournalClosed,
    JournalError,
    JournalUnavailable,
    NewerSchema,
    NotAJournal,
    UnknownRow,
)
from .journal import Journal
from .writer import JournalState, Statistics

__all__ = [
    "IllegalTransition",
    "Journal",
    "JournalClosed",
    "JournalError",
    "JournalState",
    "JournalUnavailable",
    "NewerSchema",
    "NotAJournal",
    "Statistics",
    "UnknownRow",
]
