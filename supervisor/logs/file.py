"""The log file's handler: the one writer of hermesd's logs, and of each session's."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .capped import CappedFile
from .formats import JsonFormatter, line_of, rfc3339
from .repeats import Repeats
from .sessions import SessionFiles


@dataclass(frozen=True, slots=True)
class Limits:
    """What logs may use of the disk: ``max_bytes`` times ``backups`` + 1, and twice ``session_bytes`` a session."""

    max_bytes: int = 10 << 20
    backups: int = 3
    session_bytes: int = 512 << 10
    sessions: int = 100


class LogFile(logging.Handler):
    """Writes JSON lines with repeats folded; those of a session a second time into its own file.

    A full disk costs lines and never the one who logs: how many is the next line that can be written.
    """

    def __init__(self, path: Path, formatter: JsonFormatter, limits: Limits):
        super().__init__()
        self._json = formatter
        self._file = CappedFile(path, limits.max_bytes, limits.backups)
        self._sessions = SessionFiles(path.parent / "sessions", limits.session_bytes, limits.sessions)
        self._sessions.begin()
        self._repeats = Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        # A handler's emit never raises into the one who logs: a record whose arguments do not fit costs that record.
        try:
            line = self._json.as_dict(record)
        except Exception:  # noqa: BLE001 - whatever a record's arguments raise
            self.handleError(record)
            return
        now = time.monotonic()
        for said in self._repeats.take(line, now):
            self._write(said, now)

    def tend(self, now: float) -> None:
        """To be called every few seconds: counts that wait, files that are idle or have been moved away."""
        with self._guarded():
            for said in self._repeats.overdue(now):
                self._write(said, now)
            self._file.follow()
            self._sessions.tend(now)

    def flush(self) -> None:
        with self._guarded():
            now = time.monotonic()
            for said in self._repeats.rest(now):
                self._write(said, now)

    def close(self) -> None:
        self.flush()
        with self._guarded():
            self._file.close()
            self._sessions.close()
        super().close()

    def _guarded(self) -> Any:
        assert self.lock is not None
        return self.lock

    def _write(self, line: dict[str, Any], now: float) -> None:
        data = line_of(line)
        if self._file.lost:
            self._tell_lost()
        self._file.write(data)
        if session := line.get("session"):
            self._sessions.write(session, data, now)

    def _tell_lost(self) -> None:
        text = f"{self._file.lost} log lines could not be written: {self._file.error}"
        told = {"ts": rfc3339(time.time()), "level": "ERROR", "logger": "hermesd.logs", "msg": text}
        if self._file.write(line_of(told)):
            self._file.told()
        else:
            self._file.lost -= 1  # this one was nobody's
