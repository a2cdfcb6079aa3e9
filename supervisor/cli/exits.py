"""The exit statuses of ``hermesctl``, and the error that carries one. Scripts branch on them; README lists them."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    DONE = 0
    FAILED = 1
    USAGE = 2
    STOPPED = 3  # status: not running
    NO_ANSWER = 4  # status: a process that does not answer
    CONFIG = 6  # the configuration is wrong
    NOT_RUNNING = 7  # actions
    PARTLY = 8  # some sessions failed; status --strict: degraded
    TIMED_OUT = 9  # and still going on
    TRY_AGAIN = 75  # another action is in progress
    INTERRUPTED = 130  # Ctrl-C

    # The same numbers with another meaning, as LSB has it.
    DEAD = 1  # status: no process, but a PID file that says there is one
    NOT_ALLOWED = 4  # actions


class CommandError(Exception):
    """Ends a command: ``message`` says what and why, ``fix`` what to do next, ``code`` is the word for --json."""

    def __init__(self, status: Exit, code: str, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.fix = fix
