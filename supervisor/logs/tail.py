"""The last warnings and errors, in memory, for ``hermesctl status``."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from .formats import JsonFormatter

KEPT = 50


class Tail(logging.Handler):
    def __init__(self, formatter: JsonFormatter):
        super().__init__(logging.WARNING)
        self.redactor = formatter.redactor
        self._json = formatter
        self.lines: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def emit(self, record: logging.LogRecord) -> None:
        # A handler's emit never raises into the one who logs: a record whose arguments do not fit costs that record.
        try:
            self.lines.append(self._json.as_dict(record))
        except Exception:  # noqa: BLE001 - whatever a record's arguments raise
            self.handleError(record)
