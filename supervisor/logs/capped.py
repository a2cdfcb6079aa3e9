"""A file that never grows beyond its cap, whatever is written and whatever the disk says."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import Final

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class CappedFile:
    """Whole lines, into ``path`` and then ``path.1`` ... ``path.<backups>``; each has at most ``max_bytes``.

    Nothing here raises for the disk's sake: what cannot be written is counted in ``lost``, with the reason in
    ``error``, until its owner has told of it and calls `told`.
    """

    def __init__(self, path: Path, max_bytes: int, backups: int):
        self.path = path
        self.max_bytes = max_bytes
        self.backups = backups
        self.lost = 0  # lines, since `told`
        self.error = ""
        self._descriptor = -1
        self._size = 0

    def write(self, line: bytes) -> bool:
        """Whether the line is in the file."""
        try:
            if self._descriptor < 0:
                self._open()
            if self._size and self._size + len(line) > self.max_bytes:
                self._rotate()
            self._size += os.write(self._descriptor, line[-self.max_bytes :])
        except OSError as error:
            self.lost += 1
            self.error = f"cannot write {self.path}: {error.strerror}"
            return False
        return True

    def told(self) -> None:
        """The owner has written down what was lost."""
        self.lost, self.error = 0, ""

    def follow(self) -> None:
        """Somebody may have moved the file away or removed it: go on under its name. To be called now and then."""
        if self._descriptor < 0:
            return
        try:
            named = os.stat(self.path)
        except OSError:
            self.close()
            return
        opened = os.fstat(self._descriptor)
        if (named.st_dev, named.st_ino) != (opened.st_dev, opened.st_ino):
            self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        self._descriptor = os.open(self.path, _FLAGS, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _rotate(self) -> None:
        """Raises OSError, and then the file is as long as before: the cap is kept before the line."""
        if not self.backups:
            os.ftruncate(self._descriptor, 0)
            self._size = 0
            return
        number = self.backups
        while (beyond := self._numbered(number := number + 1)).exists():  # of a time when more were to be kept
            beyond.unlink()
        for number in range(self.backups - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self._numbered(number), self._numbered(number + 1))
        os.replace(self.path, self._numbered(1))
        self.close()
        self._open()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def cut_back(path: Path, max_bytes: int) -> bool:
    """Cap a file that other code writes into through descriptors of its own, opened with O_APPEND: its content goes
    to ``path.1`` and it begins anew. True if that was necessary. Never raises for the disk's sake.

    What is written between the copy and the cut is lost, as with logrotate's copytruncate.
    """
    try:
        if path.stat().st_size <= max_bytes:
            return False
        with path.open("rb") as whole, path.with_name(f"{path.name}.1").open("wb") as kept:
            whole.seek(-max_bytes, os.SEEK_END)
            shutil.copyfileobj(whole, kept)
    except FileNotFoundError:
        return False
    except OSError:
        # A full disk, most likely. The cut below makes room, and the cap is what was promised.
        pass
    with contextlib.suppress(OSError):
        os.truncate(path, 0)
    return True
