"""The one writer of hermesd's log: JSON lines with a size cap, and plain lines on the terminal in the foreground.

Workers send their records over the wire and they are written here too, so that no two processes ever rotate one file.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import re
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MAX_BYTES = 10 * 1024 * 1024
BACKUPS = 3

TAIL = 50
"""Warnings and errors kept in memory for ``hermesctl status``."""

SECRET_LENGTH = 6
"""Secrets shorter than this are not redacted: they would blacken ordinary words."""

SECRET_WORDS = (
    "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "API_KEY", "APIKEY", "ACCESS_KEY", "PRIVATE_KEY",
    "SERVER_KEY",
)  # fmt: skip
"""What a name of a secret has in it."""

SECRET_PARTS = frozenset({"PAT"})
"""What it has as a whole part, for PATH begins like GITHUB_PAT ends."""

_PASSWORD_IN_URL = re.compile(r"://[^/@\s:]*:([^/@\s]+)@")

CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""Control characters as text: what an agent logs must not steer the terminal of the one who reads."""


def rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def names_a_secret(name: str) -> bool:
    """Whether a variable or a key of this name holds a secret."""
    name = name.upper().replace("-", "_")
    return any(word in name for word in SECRET_WORDS) or not SECRET_PARTS.isdisjoint(name.split("_"))


def secrets_of(environ: Mapping[str, str], more: Iterable[str] = ()) -> tuple[str, ...]:
    """What must not stand in a log, longest first: the values of variables whose names say so, passwords in URLs."""
    named = (value for name, value in environ.items() if names_a_secret(name))
    in_urls = (password for value in environ.values() for password in _PASSWORD_IN_URL.findall(value))
    found = {value for value in (*named, *in_urls, *more) if len(value) >= SECRET_LENGTH}
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


class Redactor:
    """Blackens secrets in the whole text of a record, arguments and tracebacks included."""

    def __init__(self, secrets: Iterable[str]):
        self._secrets = tuple(secrets)

    def clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[redacted]")
        return text


class JsonFormatter(logging.Formatter):
    """One JSON object per line; ``extra=`` fields session, worker, turn and pid travel along."""

    FIELDS = ("session", "worker", "turn", "pid")

    def __init__(self, redactor: Redactor):
        super().__init__()
        self._redactor = redactor

    def as_dict(self, record: logging.LogRecord) -> dict[str, Any]:
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        line: dict[str, Any] = {
            "ts": rfc3339(record.created),
            "level": record.levelname,
            "logger": record.name,
            "msg": self._redactor.clean(text),
        }
        for field in self.FIELDS:
            if value := getattr(record, field, None):
                line[field] = value
        return line

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.as_dict(record), ensure_ascii=False)


class PlainFormatter(logging.Formatter):
    """For people in front of a terminal."""

    def __init__(self, redactor: Redactor):
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor.clean(super().format(record)).translate(CONTROLS)


class Tail(logging.Handler):
    """The last warnings and errors, for ``hermesctl status``."""

    def __init__(self, formatter: JsonFormatter):
        super().__init__(logging.WARNING)
        self._json = formatter
        self.lines: deque[dict[str, Any]] = deque(maxlen=TAIL)

    def emit(self, record: logging.LogRecord) -> None:
        # A handler's emit never raises into the one who logs: a record whose arguments do not fit costs that record.
        try:
            self.lines.append(self._json.as_dict(record))
        except Exception:  # noqa: BLE001 - whatever a record's arguments raise
            self.handleError(record)


def install(path: Path, level: str, secrets: Iterable[str], *, terminal: bool) -> Tail:
    """Called once, under the instance's lock. ``terminal``: plain lines on stderr besides."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    redactor = Redactor(secrets)
    formatter = JsonFormatter(redactor)
    file = logging.handlers.RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=BACKUPS, encoding="utf-8",
        errors="backslashreplace",
    )  # fmt: skip
    file.setFormatter(formatter)
    tail = Tail(formatter)
    handlers: list[logging.Handler] = [file, tail]
    if terminal:
        stream = logging.StreamHandler(sys.stderr)
        stream.setFormatter(PlainFormatter(redactor))
        handlers.append(stream)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    # It writes every request to INFO, and the access log of a busy API is nobody's evidence.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    return tail


def write_worker_record(at: float, level: int, name: str, text: str, **fields: Any) -> None:
    """One record of a worker, with its own time."""
    logger = logging.getLogger("worker")
    if not logger.isEnabledFor(level):
        return
    record = logger.makeRecord(name or "worker", level, "", 0, text, (), None, extra=fields)
    record.msg, record.args, record.created = text, (), at
    logger.handle(record)
