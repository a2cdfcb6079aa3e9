"""Records as lines: JSON for the files, plain text for a terminal."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final

from hermesd.ipc.redaction import Redactor

MAX_TEXT: Final = 16 * 1024
"""Characters of one message; a longer one keeps its beginning and its end."""

CONTROLS: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""Control characters as text: what an agent logs must not steer the terminal of the one who reads."""


def rfc3339(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def line_of(values: dict[str, Any]) -> bytes:
    """One line of a file. Text that is no Unicode is written as ``\\udcff``."""
    return json.dumps(values, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


class JsonFormatter(logging.Formatter):
    """One JSON object per line; ``extra=`` fields session, worker, turn and pid travel along."""

    FIELDS = ("session", "worker", "turn", "pid")

    def __init__(self, redactor: Redactor):
        super().__init__()
        self.redactor = redactor

    def as_dict(self, record: logging.LogRecord) -> dict[str, Any]:
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        line: dict[str, Any] = {
            "ts": rfc3339(record.created),
            "level": record.levelname,
            "logger": record.name,
            # Cleaned before it is cut: half a secret would not be known for one.
            "msg": shortened(self.redactor.clean(text)),
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
        self.redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return self.redactor.clean(super().format(record)).translate(CONTROLS)


def shortened(text: str, limit: int = MAX_TEXT) -> str:
    """At most about ``limit`` characters: the beginning, how many are left out, and the end."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]} … {len(text) - limit} characters … {text[-limit // 2 :]}"
