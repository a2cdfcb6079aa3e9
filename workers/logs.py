"""A worker's log records on their way to the supervisor, the one writer of log files.

Records are formatted here and travel with the heartbeats; nothing of an agent's own objects crosses the wire. What the
agent's forked children log comes through multiprocessing-logging, whose queue lives inside this worker: shared between
workers it would deadlock all of them once one is killed while it holds the queue's lock.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque

from hermesd.ipc.codec import clean
from hermesd.ipc.messages import LogRecord, Logs

MAX_TEXT = 8_192
"""Characters of one record; a longer one keeps its beginning and its end."""

MAX_WAITING = 2_000
"""Records that wait for the link; beyond it the oldest are dropped and counted."""

BATCH = 200
"""Records in one frame."""


class WireHandler(logging.Handler):
    """Collects records of any thread; the link thread takes them."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[LogRecord] = deque()
        self._dropped = 0
        self._guard = threading.Lock()
        self.turn = ""

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
        entry = LogRecord(at, level, logger, clean(text), self.turn, pid if pid != os.getpid() else 0)
        with self._guard:
            if len(self._waiting) >= MAX_WAITING:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(entry)

    def take(self, now: float) -> Logs | None:
        """Called by the link thread: the next batch, or None."""
        with self._guard:
            if not self._waiting:
                return None
            count = min(BATCH, len(self._waiting))
            records = tuple(self._waiting.popleft() for _ in range(count))
            dropped, self._dropped = self._dropped, 0
        return Logs(records, dropped)


def install(level: str) -> WireHandler:
    """Make the wire the only sink of this process's logging, and of its forked children's once it has any."""
    handler = WireHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # httpx-like libraries log whole URLs, keys included, at INFO.
    for noisy in ("httpx", "httpcore", "httpx2", "httpcore2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if sys.platform != "win32":
        os.register_at_fork(before=_gather_children_of(root, handler))
    return handler


def _gather_children_of(root: logging.Logger, handler: WireHandler) -> _GatherOnce:
    return _GatherOnce(root, handler)


class _GatherOnce:
    """Puts multiprocessing-logging between the root logger and the wire just before the first fork of agent code.

    A worker that never forks has neither its queue nor its thread.
    """

    def __init__(self, root: logging.Logger, handler: WireHandler):
        self._root = root
        self._handler = handler
        self._owner = os.getpid()
        self._done = False

    def __call__(self) -> None:
        if self._done or os.getpid() != self._owner:
            return
        self._done = True
        from multiprocessing_logging import MultiProcessingHandler

        self._root.handlers[:] = [MultiProcessingHandler("wire", self._handler)]
