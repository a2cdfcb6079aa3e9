"""Standard output and error of a worker as log records: nothing that an agent prints is lost, or can reach the wire.

A pipe takes the place of both; the link thread reads it. What comes faster than the cap is counted, not kept, and the
writer is never blocked for longer than the link thread is.
"""

from __future__ import annotations

import logging
import os
import time

from .logs import WireHandler

BYTES_PER_SECOND = 64 * 1024

LINE = 4_096
"""Bytes after which a line without an end is taken as one."""


class Capture:
    """``descriptor`` is what to poll, `read` what to call when it is readable."""

    def __init__(self, sink: WireHandler):
        self._sink = sink
        self.descriptor, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write, True)
        os.dup2(write, 1)
        os.dup2(write, 2)
        # Kept open: an agent that closes its standard streams would make the pipe readable, with nothing, for ever.
        self._write = write
        self._partial = b""
        self._window = 0.0
        self._taken = 0
        self._dropped = 0

    def read(self) -> None:
        """Take what is there; called by the link thread only."""
        try:
            data = os.read(self.descriptor, 65536)
        except BlockingIOError:
            return
        now = time.monotonic()
        if now - self._window >= 1.0:
            if self._dropped:
                self._sink.add(time.time(), logging.WARNING, "stdout", f"{self._dropped} bytes of output not kept")
            self._window, self._taken, self._dropped = now, 0, 0
        self._taken += len(data)
        if self._taken > BYTES_PER_SECOND:
            self._dropped += len(data)
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > LINE:
            lines.append(self._partial)
            self._partial = b""
        for line in lines:
            if line.strip():
                self._sink.add(time.time(), logging.INFO, "stdout", line.decode("utf-8", "replace"))
