"""What a server writes to stderr: into a file with a size cap, and its last lines kept for the reason of a crash.

A server that floods is never made to wait, for then it could not answer either: beyond a rate its output is read and
counted, and not kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import deque
from pathlib import Path

from hermesd.ipc.mcp import log_name
from hermesd.ipc.redaction import Redactor

FILE_CAP = 1 << 20  # bytes; one older file of the same size is kept as ".1"
KEPT_RATE = 256 << 10  # bytes a second that are written into the file
READ_RATE = 256 << 20  # bytes a second that are read at all; beyond it the server waits
LAST_LINES = 5
LINE_SHOWN = 300  # characters of a line in a reason
_CHUNK = 1 << 16
_LONGEST_LINE = 8192  # bytes after which a line without an end is taken as one
_GLANCE = 2048  # bytes at the end of what is not kept, of which the last lines are remembered


def log_path(log_dir: str | Path, server: str) -> Path:
    """The log file of a server, which all sessions share."""
    return Path(log_dir) / log_name(server)


class StderrLog:
    """Appends to one file over all generations of one server; never raises for a full disk, the server goes on."""

    def __init__(self, path: Path | None, cap: int = FILE_CAP, redactor: Redactor | None = None) -> None:
        self._path = path
        self._cap = cap
        self._redactor = redactor or Redactor(())
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._partial = b""
        self._skipped = 0
        self.error = ""  # why lines are not in the file, where they are not

    def redact_by(self, redactor: Redactor) -> None:
        """From now on: its configuration hands it other secrets."""
        self._redactor = redactor

    def begin(self, header: str) -> None:
        """A new generation: a line of ours into the file, and no last lines of the one before."""
        self.end()
        self._last.clear()
        self._append(self._redactor.clean(f"--- {header}\n").encode("utf-8", "backslashreplace"))

    def write(self, data: bytes) -> None:
        """Whole lines go into the file; the rest waits for its end, for a secret may be cut in two."""
        self._tell_skipped()
        *ended, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > _LONGEST_LINE:
            ended.append(self._partial)
            self._partial = b""
        self._take(ended)

    def skip(self, data: bytes) -> None:
        """It comes too fast: only its last lines are remembered, and its size."""
        if not self._skipped:
            self._take([self._partial] if self._partial else [])
        self._skipped += len(data)
        *ended, self._partial = data[-_GLANCE:].split(b"\n")
        for line in ended[-LAST_LINES:]:
            self._keep(line)

    def end(self) -> None:
        """Nothing more of this generation comes: what has no end is a line, too."""
        self._tell_skipped()
        if self._partial:
            self._take([self._partial])
            self._partial = b""

    def last_lines(self) -> str:
        """The last non-empty lines of this generation, for a sentence."""
        lines = [*self._last]
        if self._partial.strip():
            lines.append(self._shown(self._partial))
        return " | ".join(lines[-LAST_LINES:])

    def _take(self, lines: list[bytes]) -> None:
        for line in lines[-LAST_LINES:]:
            self._keep(line)
        if lines:
            text = b"\n".join(lines).decode("utf-8", "surrogateescape")
            self._append(self._redactor.clean(text).encode("utf-8", "surrogateescape") + b"\n")

    def _tell_skipped(self) -> None:
        if self._skipped:
            self._append(f"--- {self._skipped} bytes came too fast and are not kept\n".encode())
            self._skipped = 0

    def _keep(self, line: bytes) -> None:
        if line.strip():
            self._last.append(self._shown(line))

    def _append(self, data: bytes) -> None:
        if self._path is None:
            return
        try:
            self._rotate(len(data))
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, data[-self._cap :])
            finally:
                os.close(descriptor)
        except OSError as error:
            self.error = f"cannot write {self._path}: {error.strerror}"

    def _rotate(self, more: int) -> None:
        assert self._path is not None
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size + more > self._cap:
                self._path.replace(self._path.with_name(self._path.name + ".1"))

    def _shown(self, line: bytes) -> str:
        text = self._redactor.clean(line[-_LONGEST_LINE:].decode(errors="replace")).strip()
        return "".join(char if char.isprintable() else " " for char in text)[:LINE_SHOWN]


async def drain(reader: asyncio.StreamReader, log: StderrLog) -> None:
    """Copy until the end of the pipe, at the rates above."""
    loop = asyncio.get_running_loop()
    window, read, kept = loop.time(), 0, 0
    try:
        while data := await reader.read(_CHUNK):
            now = loop.time()
            if now - window >= 1.0:
                window, read, kept = now, 0, 0
            read += len(data)
            if kept < KEPT_RATE:
                log.write(data)
                kept += len(data)
            else:
                log.skip(data)
            if read >= READ_RATE:
                await asyncio.sleep(window + 1.0 - now)
    finally:
        log.end()
