"""The schema, as the list of steps that made it. Step n brings a file from ``user_version`` n to n + 1.

A step that was released is never changed: add one. All times are Unix seconds (REAL), all ``*_json`` columns JSON.
"""

from __future__ import annotations

Migration = tuple[str, ...]  # statements, run in one transaction with all other steps of the same upgrade

_FIRST: Migration = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    # One row per life of a session; the current one has no ended_at.
    """
    CREATE TABLE sessions (
        session_id TEXT PRIMARY KEY,
        key        TEXT NOT NULL,
        platform   TEXT NOT NULL,
        chat_id    TEXT NOT NULL,
        chat_type  TEXT NOT NULL,
        chat_name  TEXT NOT NULL,
        thread_id  TEXT NOT NULL,
        user_id    TEXT NOT NULL,
        user_name  TEXT NOT NULL,
        ephemeral  INTEGER NOT NULL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        ended_at   REAL,
        end_reason TEXT NOT NULL DEFAULT ''
    )
    """,
    "CREATE UNIQUE INDEX sessions_current ON sessions (key) WHERE ended_at IS NULL",
    "CREATE INDEX sessions_by_key ON sessions (key, created_at)",
    "CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL",
    """
    CREATE TABLE transcripts (
        session_id TEXT NOT NULL REFERENCES sessions (session_id) ON DELETE CASCADE,
        seq        INTEGER NOT NULL,
        role       TEXT NOT NULL,
        text       TEXT NOT NULL,
        at         REAL NOT NULL,
        turn       TEXT NOT NULL,
        UNIQUE (session_id, seq)
    )
    """,
    # AUTOINCREMENT: an id is never given twice, not even after the newest rows were pruned.
    """
    CREATE TABLE inbox (
        id               INTEGER PRIMARY KEY AUTOINCREMENT,
        platform         TEXT NOT NULL,
        chat_id          TEXT NOT NULL,
        message_id       TEXT NOT NULL,
        thread_id        TEXT NOT NULL,
        chat_type        TEXT NOT NULL,
        chat_name        TEXT NOT NULL,
        user_id          TEXT NOT NULL,
        user_id_alt      TEXT NOT NULL,
        user_name        TEXT NOT NULL,
        trusted          INTEGER NOT NULL,
        text             TEXT NOT NULL,
        attachments_json TEXT NOT NULL,
        history_json     TEXT,
        sent_at          REAL NOT NULL,
        received_at      REAL NOT NULL,
        session_key      TEXT NOT NULL DEFAULT '',
        state            TEXT NOT NULL,
        changed_at       REAL NOT NULL,
        turn             TEXT NOT NULL DEFAULT '',
        worker           TEXT NOT NULL DEFAULT '',
        attempt          INTEGER NOT NULL DEFAULT 0,
        killed           INTEGER NOT NULL DEFAULT 0,
        error            TEXT NOT NULL DEFAULT '',
        UNIQUE (platform, chat_id, message_id)
    )
    """,
    "CREATE INDEX inbox_by_state ON inbox (state, changed_at)",
    "CREATE INDEX inbox_by_session ON inbox (session_key, id) WHERE turn <> ''",
    # No foreign keys: a turn is kept as long as its own retention says, whatever became of the rows it names.
    """
    CREATE TABLE turns (
        turn        TEXT PRIMARY KEY,
        session_key TEXT NOT NULL,
        session_id  TEXT NOT NULL,
        inbox_id    INTEGER,
        worker      TEXT NOT NULL,
        state       TEXT NOT NULL,
        started_at  REAL NOT NULL,
        accepted_at REAL,
        ended_at    REAL,
        error       TEXT NOT NULL DEFAULT '',
        cpu_seconds REAL NOT NULL DEFAULT 0
    )
    """,
    "CREATE INDEX turns_by_session ON turns (session_key, started_at)",
    "CREATE INDEX turns_ended ON turns (ended_at) WHERE ended_at IS NOT NULL",
    """
    CREATE TABLE outbox (
        id                  INTEGER PRIMARY KEY AUTOINCREMENT,
        key                 TEXT NOT NULL UNIQUE,
        turn                TEXT NOT NULL,
        platform            TEXT NOT NULL,
        chat_id             TEXT NOT NULL,
        thread_id           TEXT NOT NULL,
        reply_to            TEXT NOT NULL,
        kind                TEXT NOT NULL,
        text                TEXT NOT NULL,
        files_json          TEXT NOT NULL,
        usage_json          TEXT NOT NULL,
        final               INTEGER NOT NULL,
        created_at          REAL NOT NULL,
        state               TEXT NOT NULL,
        changed_at          REAL NOT NULL,
        attempts            INTEGER NOT NULL DEFAULT 0,
        next_try_at         REAL NOT NULL,
        platform_message_id TEXT NOT NULL DEFAULT '',
        error               TEXT NOT NULL DEFAULT ''
    )
    """,
    "CREATE INDEX outbox_by_state ON outbox (state, changed_at)",
    # A chat's messages go out in order: this finds the oldest that still waits in its lane.
    "CREATE INDEX outbox_lane ON outbox (platform, chat_id, thread_id, id) WHERE state IN ('pending', 'sending')",
)

_SECOND: Migration = (
    # The worker processes that hold a session, for a hermesd that takes them over; deleted when they are gone.
    """
    CREATE TABLE workers (
        worker       TEXT PRIMARY KEY,
        session_key  TEXT NOT NULL,
        session_id   TEXT NOT NULL,
        ephemeral    INTEGER NOT NULL,
        wire_name    TEXT NOT NULL,
        tag          TEXT NOT NULL,
        containment  TEXT NOT NULL,
        place        TEXT NOT NULL,
        proof        TEXT NOT NULL,
        stacks       TEXT NOT NULL,
        keeper       INTEGER NOT NULL,
        pid          INTEGER NOT NULL,
        start_ticks  INTEGER NOT NULL,
        started_at   REAL NOT NULL
    ) WITHOUT ROWID
    """,
)

_THIRD: Migration = (
    # Answers of users to the questions of turns that run, for a hermesd that takes over; deleted when the turn ends.
    """
    CREATE TABLE answers (
        ask     TEXT PRIMARY KEY,
        turn    TEXT NOT NULL,
        choice  TEXT NOT NULL,
        by_user TEXT NOT NULL
    ) WITHOUT ROWID
    """,
    "CREATE INDEX answers_by_turn ON answers (turn)",
)

_FOURTH: Migration = (
    # What a chat platform says of a message besides its text, and how far its adapter has read.
    "ALTER TABLE inbox ADD COLUMN reply_to_id TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE inbox ADD COLUMN reply_to_text TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE inbox ADD COLUMN album TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE outbox ADD COLUMN question_json TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE outbox ADD COLUMN quotes INTEGER NOT NULL DEFAULT 1",
    """
    CREATE TABLE cursors (
        platform TEXT NOT NULL,
        name     TEXT NOT NULL,
        value    TEXT NOT NULL,
        PRIMARY KEY (platform, name)
    ) WITHOUT ROWID
    """,
)

_FIFTH: Migration = (
    # A message in the parts that its platform takes: each names the row of the first one, and 0 is one not cut yet.
    "ALTER TABLE outbox ADD COLUMN part_of INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX outbox_parts ON outbox (part_of) WHERE part_of <> 0 AND part_of <> id",
    "CREATE INDEX outbox_questions ON outbox (turn) WHERE question_json <> ''",
    # Where an answer that is being written is shown; deleted when its final text has taken these messages over.
    """
    CREATE TABLE progress (
        turn       TEXT NOT NULL,
        number     INTEGER NOT NULL,
        platform   TEXT NOT NULL,
        chat_id    TEXT NOT NULL,
        thread_id  TEXT NOT NULL,
        message_id TEXT NOT NULL,
        segment    INTEGER NOT NULL,
        begins     INTEGER NOT NULL,
        text       TEXT NOT NULL,
        stale      INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (turn, message_id)
    ) WITHOUT ROWID
    """,
)

_SIXTH: Migration = (
    # Where the answer to an event goes; "" for a message of a person, whose answer goes back.
    "ALTER TABLE inbox ADD COLUMN delivery_json TEXT NOT NULL DEFAULT ''",
)

_SEVENTH: Migration = (
    # Tokens that the turns of a conversation have used, as far as its agent counts them; turns themselves are pruned.
    "ALTER TABLE sessions ADD COLUMN prompt_tokens INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE sessions ADD COLUMN completion_tokens INTEGER NOT NULL DEFAULT 0",
)

_EIGHTH: Migration = (
    # Parts of a message that go in one call: each names the key of the first of them, "" for one that goes alone.
    "ALTER TABLE outbox ADD COLUMN album TEXT NOT NULL DEFAULT ''",
)

MIGRATIONS: tuple[Migration, ...] = (_FIRST, _SECOND, _THIRD, _FOURTH, _FIFTH, _SIXTH, _SEVENTH, _EIGHTH)
