"""A file of its own for each session that logs, beside the log of all: one loud session cannot push another's out."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from pathlib import Path

from hermesd.supervisor.instance.paths import session_log_name

from .capped import CappedFile

MAX_OPEN = 32

IDLE_SECONDS = 60.0
"""A file that nothing was written into for this long is closed."""


class SessionFiles:
    """``count`` files at most (0: none is written), each with one older one; the longest silent ones are removed."""

    def __init__(self, directory: Path, max_bytes: int, count: int):
        self._directory = directory
        self._max_bytes = max_bytes
        self._count = count
        self._open: OrderedDict[str, tuple[CappedFile, float]] = OrderedDict()
        self._known: set[str] = set()  # names that are on the disk

    def begin(self) -> None:
        """Once, before the first write: see what is there, and remove what is too many by now."""
        with contextlib.suppress(OSError):  # where there is no room, the write says so
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._known = {path.name for path in self._directory.glob("*.log")}
            self._make_room()

    def write(self, session: str, line: bytes, now: float) -> None:
        if not self._count:
            return
        entry = self._open.pop(session, None)
        file = entry[0] if entry is not None else self._begin(session)
        file.write(line)
        self._open[session] = file, now

    def tend(self, now: float) -> None:
        """Close what is idle, and go on under the right names."""
        for session, (file, written_at) in list(self._open.items()):
            if now - written_at >= IDLE_SECONDS:
                file.close()
                del self._open[session]
            else:
                file.follow()

    def close(self) -> None:
        for file, _ in self._open.values():
            file.close()
        self._open.clear()

    def _begin(self, session: str) -> CappedFile:
        if len(self._open) >= min(MAX_OPEN, self._count):
            _, (oldest, _) = self._open.popitem(last=False)
            oldest.close()
        name = session_log_name(session)
        if name not in self._known:
            self._known.add(name)
            with contextlib.suppress(OSError):
                self._make_room()
        return CappedFile(self._directory / name, self._max_bytes, 1)

    def _make_room(self) -> None:
        """Remove the longest silent ones. One that is open has been written into just now."""
        excess = len(self._known) - self._count
        if excess <= 0:
            return
        open_ones = {file.path.name for file, _ in self._open.values()}
        silent = [path for path in self._directory.glob("*.log") if path.name not in open_ones]
        for path in sorted(silent, key=lambda path: path.stat().st_mtime)[:excess]:
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.1").unlink(missing_ok=True)
            self._known.discard(path.name)
