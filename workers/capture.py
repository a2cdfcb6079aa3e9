"""Standard output and error of a worker as log records: nothing that an agent prints is lost, or can reach the wire.

A pipe takes the place of both; the link thread reads it. What comes faster than the cap is counted, not kept, and the
writer is never blocked for longer than the link thread is.
"""

from __future__ import annotations

import logging
import math
import os
import time

from .logs import WireHandler

BYTES_PER_SECOND = 64 * 1024

WINDOW = 1.0
"""Seconds over which the cap is counted."""

PIECE = 65_536
"""Bytes of one read: what a pipe holds."""

FLUSH_PIECES = 16

LINE = 4_096
"""Bytes after which a line without an end is taken as one."""


class Capture:
    """``descriptor`` is what to poll, `read` what to call when it is readable, `flush` when nobody polls any more."""

    def __init__(self, sink: WireHandler):
        self._sink = sink
        self.descriptor, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write, True)
        os.dup2(write, 1)
        os.dup2(write, 2)
        # Kept open: an agent that closes its standard streams would make the pipe readable, with nothing, for ever.
        self._write = write
        self._partial = b""
        self._window = -math.inf
        self._taken = 0
        self._dropped = 0

    def read(self) -> bool:
        """Take one piece of what is there; False: nothing is. Called by the link thread only."""
        try:
            data = os.read(self.descriptor, PIECE)
        except BlockingIOError:
            return False
        now = time.monotonic()
        self.tick(now)
        if now - self._window >= WINDOW:
            self._window, self._taken = now, 0
        self._taken += len(data)
        if self._taken > BYTES_PER_SECOND:
            # What follows the gap is another line: put together they would be one that nobody wrote.
            self._end_line()
            self._dropped += len(data)
            return True
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > LINE:
            lines.append(self._partial)
            self._partial = b""
        for line in lines:
            self._keep(line)
        return True

    def tick(self, now: float) -> None:
        """Report what was dropped, once its second is over; called with each heartbeat."""
        if self._dropped and now - self._window >= WINDOW:
            self._report()

    def flush(self) -> None:
        """The end: take the rest, the last line without its end too, and report what was dropped."""
        # Bounded: a thread of the agent may go on printing.
        for _ in range(FLUSH_PIECES):
            if not self.read():
                break
        self._end_line()
        if self._dropped:
            self._report()

    def _report(self) -> None:
        self._sink.add(time.time(), logging.WARNING, "stdout", f"{self._dropped} bytes of output not kept")
        self._dropped = 0

    def _end_line(self) -> None:
        self._keep(self._partial)
        self._partial = b""

    def _keep(self, line: bytes) -> None:
        if line.strip():
            self._sink.add(time.time(), logging.INFO, "stdout", line.decode("utf-8", "replace"))
