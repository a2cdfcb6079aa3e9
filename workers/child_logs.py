"""What an agent's forked children log, gathered by multiprocessing-logging inside the worker.

Each fork gets a handler and a queue of its own, made just before it: a child that is killed while it holds its queue's
lock takes nobody else's records with it, neither the worker's nor another child's. The worker closes its own end for
writing, so that the death of the child ends the queue and the thread that reads it.

A child that forks does the same, and passes on what it gathers.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing_logging import MultiProcessingHandler

MAX_GATHERED = 64
"""Children that are listened to at once, each by a thread; what more of them log goes to standard error."""

DRAIN_SECONDS = 1.0
"""How long a child waits at its end for the records of its own children."""

MAX_UNREAD = 20_000
"""Records that a child may have under way; it drops and counts what it logs beyond, for its memory is no log."""


class ChildLogs:
    """``root`` is the logger whose handlers a child gets anew, ``sink`` what the records of children go to."""

    def __init__(self, root: logging.Logger, sink: logging.Handler):
        self._root = root
        self._sink = sink
        self._made = threading.local()  # between the two sides of a fork, which are in one thread
        self._threads: list[threading.Thread] = []
        self._worker = os.getpid()
        self._drains_at_exit = 0  # pid of the child that this was arranged in

    def watch_forks(self) -> None:
        """For the rest of this process's life, and of its forks' lives."""
        os.register_at_fork(before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child)

    def _before(self) -> None:
        # Whatever goes wrong here, out of descriptors for one, must not keep the agent from forking.
        self._made.handler = None
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) >= MAX_GATHERED:
            return
        try:
            self._made.handler = handler = _gatherer(self._sink)
        except (OSError, RuntimeError, ImportError) as error:
            self._sink.handle(_warning(f"the log of a forked child goes to standard error: {error}"))
            return
        self._threads.append(handler._receive_thread)

    def _in_parent(self) -> None:
        handler, self._made.handler = self._made.handler, None
        if handler is None:
            return
        handler.queue._writer.close()
        if os.getpid() not in (self._worker, self._drains_at_exit):
            from multiprocessing.util import Finalize

            # Before a queue's own finalizers, of which the first has priority 10: they send what is gathered here.
            Finalize(None, self._drain, exitpriority=20)
            self._drains_at_exit = os.getpid()

    def _drain(self) -> None:
        """A child ends that has had children: what they said last may still be on its way here."""
        deadline = time.monotonic() + DRAIN_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _in_child(self) -> None:
        handler, self._made.handler = self._made.handler, None
        self._threads = []
        if handler is None:
            # Standard error is the worker's pipe, which it reads as lines.
            fallback = logging.StreamHandler(sys.stderr)
            fallback.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
            self._sink = fallback
        else:
            self._sink = handler
        self._root.handlers[:] = [self._sink]


def _gatherer(sink: logging.Handler) -> MultiProcessingHandler:
    return _gatherer_class()(f"logs of a child of {os.getpid()}", sink)


@functools.cache
def _gatherer_class() -> type[MultiProcessingHandler]:
    # Most agents never fork: the library, and multiprocessing with it, is loaded for those that do.
    from multiprocessing_logging import MultiProcessingHandler

    class Gatherer(MultiProcessingHandler):  # type: ignore[misc]
        """The library's handler, bounded: its queue takes all that a process logs, as fast as it does."""

        dropped = 0

        def _format_record(self, record: logging.LogRecord) -> logging.LogRecord:
            """Plain values only: what an agent attaches to a record may not survive the pickling, or the unpickling."""
            record = super()._format_record(record)
            plain = logging.LogRecord(record.name, record.levelno, "", 0, str(record.msg), (), None)
            plain.created, plain.process, plain.exc_text = record.created, record.process, record.exc_text
            return plain

        def _send(self, record: logging.LogRecord) -> None:
            if self.queue.qsize() > MAX_UNREAD:
                self.dropped += 1
                return
            if self.dropped:
                count, self.dropped = self.dropped, 0
                super()._send(_warning(f"{count} log records of pid {os.getpid()} did not fit"))
            super()._send(record)

    return Gatherer


def _warning(text: str) -> logging.LogRecord:
    return logging.LogRecord("worker", logging.WARNING, "", 0, text, (), None)
