"""What a server writes to stderr: into a file with a size cap, and its last lines kept for the reason of a crash."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections import deque
from pathlib import Path

FILE_CAP = 1 << 20  # bytes; one older file of the same size is kept as ".1"
FLOOD_RATE = 4 << 20  # bytes a second that the worker is willing to copy for one server
LAST_LINES = 5
LINE_SHOWN = 300  # characters of a line in a reason
_CHUNK = 1 << 16


def log_path(log_dir: str | Path, server: str) -> Path:
    """The log file of a server. Its name comes from a configuration and may hold anything, also slashes."""
    return Path(log_dir) / f"mcp-{re.sub(r'[^A-Za-z0-9._-]', '_', server)[:100]}.log"


class StderrLog:
    """Appends to one file over all generations of one server; never raises for a full disk, the server goes on."""

    def __init__(self, path: Path | None, cap: int = FILE_CAP) -> None:
        self._path = path
        self._cap = cap
        self._last: deque[str] = deque(maxlen=LAST_LINES)
        self._partial = b""
        self.error = ""  # why lines are not in the file, where they are not

    def begin(self, header: str) -> None:
        """A new generation: a line of ours into the file, and no last lines of the one before."""
        self._last.clear()
        self._partial = b""
        self._append(f"--- {header}\n".encode())

    def write(self, data: bytes) -> None:
        *ended, rest = (self._partial + data).split(b"\n")
        self._partial = rest[-_CHUNK:]
        for line in ended[-LAST_LINES:]:
            self._keep(line)
        self._append(data)

    def last_lines(self) -> str:
        """The last non-empty lines of this generation, for a sentence."""
        lines = [*self._last]
        if self._partial.strip():
            lines.append(_shown(self._partial))
        return " | ".join(lines[-LAST_LINES:])

    def _keep(self, line: bytes) -> None:
        if line.strip():
            self._last.append(_shown(line))

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


def _shown(line: bytes) -> str:
    text = line.decode(errors="replace").strip()
    return "".join(char if char.isprintable() else " " for char in text)[:LINE_SHOWN]


async def drain(reader: asyncio.StreamReader, log: StderrLog) -> None:
    """Copy until the end of the pipe. A flood is slowed down: it shall cost its author's time and not the worker's."""
    loop = asyncio.get_running_loop()
    window, copied = loop.time(), 0
    while data := await reader.read(_CHUNK):
        log.write(data)
        copied += len(data)
        now = loop.time()
        if now - window >= 1.0:
            window, copied = now, 0
        elif copied >= FLOOD_RATE:
            await asyncio.sleep(window + 1.0 - now)
