"""A worker's log records on their way to the supervisor, the one writer of log files.

Records are formatted here and handed to the link thread; nothing of an agent's own objects crosses the wire. What the
agent's forked children log comes here as well (`hermesd.workers.child_logs`).

Whatever an agent does, this costs a bounded memory and the supervisor a bounded time: a room of records that wait, and
an allowance of records a second that a worker may use up at once and that then grows again slowly.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable

from hermesd.ipc.codec import clean
from hermesd.ipc.messages import LogRecord, Logs

from .child_logs import ChildLogs

MAX_TEXT = 8_192
"""Characters of one record; a longer one keeps its beginning and its end."""

MAX_WAITING = 20_000
"""Records that wait for the link; beyond it the oldest are dropped and counted."""

MAX_WAITING_TEXT = 8_000_000
"""Characters of all that wait; the same."""

BATCH = 50
"""Records in one frame: the supervisor writes them in one go, and needs a millisecond or two for so many."""

BATCH_TEXT = 32_768
"""Characters after which a frame is full."""

BURST = 20_000
"""Records that a worker which has been quiet may send as fast as they are taken."""

PER_SECOND = 200.0
"""Records a second that it may send on and on."""


class WireHandler(logging.Handler):
    """Collects records of any thread; the link thread takes them."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[LogRecord] = deque()
        self._text = 0
        self._dropped = 0
        self._guard = threading.Lock()
        self._allowance = float(BURST)
        self._counted_at: float | None = None
        self._notify: Callable[[], None] = lambda: None
        self.turn = ""

    def notify(self, call: Callable[[], None]) -> None:
        """``call`` is called from any thread when something waits where nothing did."""
        self._notify = call

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # noqa: BLE001 - a record whose arguments do not fit its format string must not end its caller
            text = f"{record.msg!r} (cannot be formatted with {record.args!r})"
        self.add(record.created, record.levelno, record.name, text, record.process or 0)

    def add(self, at: float, level: int, logger: str, text: str, pid: int = 0) -> None:
        """Take one line that did not come through logging (standard output, for one)."""
        if len(text) > MAX_TEXT:
            text = f"{text[: MAX_TEXT // 2]} … {len(text) - MAX_TEXT} characters … {text[-MAX_TEXT // 2 :]}"
        entry = LogRecord(at, level, clean(logger), clean(text), self.turn, pid if pid != os.getpid() else 0)
        with self._guard:
            first = not self._waiting
            self._waiting.append(entry)
            self._text += len(entry.text)
            while len(self._waiting) > MAX_WAITING or self._text > MAX_WAITING_TEXT:
                self._text -= len(self._waiting.popleft().text)
                self._dropped += 1
        if first:
            self._notify()

    def take(self, now: float, *, ending: bool = False) -> Logs | None:
        """Called by the link thread: the next batch, or None when none may go now. ``ending``: all may."""
        with self._guard:
            self._grow_allowance(now)
            count, text = 0, 0
            allowed = BATCH if ending else min(BATCH, int(self._allowance))
            for entry in self._waiting:
                if count == allowed or text > BATCH_TEXT:
                    break
                count, text = count + 1, text + len(entry.text)
            if not count:
                return None
            records = tuple(self._waiting.popleft() for _ in range(count))
            self._text -= text
            self._allowance -= count
            dropped, self._dropped = self._dropped, 0
        return Logs(records, dropped)

    def due(self, now: float) -> float | None:
        """When `take` has something to give, in the clock of ``now``; None: nothing waits."""
        if not self._waiting:
            return None
        missing = min(BATCH, len(self._waiting)) - self._allowance
        return now + max(0.0, missing / PER_SECOND)

    def _grow_allowance(self, now: float) -> None:
        if self._counted_at is not None:
            self._allowance = min(BURST, self._allowance + (now - self._counted_at) * PER_SECOND)
        self._counted_at = now


def quieten() -> None:
    """Libraries like httpx log whole URLs, keys included, at INFO. A keeper does it for all its workers."""
    for noisy in ("httpx", "httpcore", "httpx2", "httpcore2"):
        _set_level(logging.getLogger(noisy), "WARNING")


def _set_level(logger: logging.Logger, level: str) -> None:
    # ``setLevel`` writes into every logger there is, also where it changes nothing: 0.3 ms of a worker's start, and
    # pages of its own that it could share with its keeper.
    if logging.getLevelName(logger.level) != level:
        logger.setLevel(level)


def install(level: str) -> WireHandler:
    """Make the wire the only sink of this process's logging, and of its forked children's once it has any."""
    handler = WireHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    _set_level(root, level)
    quieten()
    if sys.platform != "win32":
        ChildLogs(root, handler).watch_forks()
    return handler
