"""Bytes from a pipe to lines, with a bound on how much a line may take."""

from __future__ import annotations


class Lines:
    """Splits what `feed` is given at newlines. A longer line than ``limit`` bytes is dropped whole and counted."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._skipping = False
        self.dropped = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their newline."""
        *ended, rest = data.split(b"\n")
        lines: list[bytes] = []
        for part in ended:
            self._add(part)
            if self._skipping:
                self._skipping = False
            else:
                lines.append(b"".join(self._parts))
            self._parts.clear()
            self._size = 0
        self._add(rest)
        return lines

    def _add(self, part: bytes) -> None:
        if self._skipping or not part:
            return
        self._size += len(part)
        if self._size > self._limit:
            self._skipping = True
            self.dropped += 1
            self._parts.clear()
            self._size = 0
        else:
            self._parts.append(part)
