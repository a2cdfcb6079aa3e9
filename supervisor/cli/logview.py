"""The log file as ``hermesctl logs`` shows it: JSON lines in, chosen lines out. Works without hermesd."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from hermesd.supervisor.control import naming

from . import words
from .render import Paint

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_STYLES = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
_BLOCK = 64 * 1024
_POLL = 0.2  # seconds between looks at a followed file


@dataclass(frozen=True, slots=True)
class Choice:
    """Which lines are wanted."""

    level: str = "DEBUG"
    session: str = ""  # a session's key or its end, a worker or a turn
    pattern: re.Pattern[str] | None = None
    since: datetime | None = None

    def wants(self, line: dict[str, Any]) -> bool:
        level = str(line.get("level", "INFO"))
        if level in LEVELS and LEVELS.index(level) < LEVELS.index(self.level):
            return False
        if self.session and not self._concerns(line):
            return False
        if self.pattern is not None and not self.pattern.search(str(line.get("msg", ""))):
            return False
        return self.since is None or not self.is_before(line)

    def is_before(self, line: dict[str, Any]) -> bool:
        """Whether the line, and with it every older one, is from before ``since``."""
        if self.since is None:
            return False
        try:
            return words.parse_time(str(line.get("ts", ""))) < self.since
        except ValueError:
            return False

    def _concerns(self, line: dict[str, Any]) -> bool:
        session = str(line.get("session", ""))
        return self.session in (session, line.get("worker"), line.get("turn")) or session.endswith(f":{self.session}")


def parse(raw: bytes) -> dict[str, Any]:
    """One line of the file. A line that is no JSON (a crash report of the interpreter) is a message of its own."""
    text = raw.decode("utf-8", "replace").rstrip("\n")
    try:
        line = json.loads(text)
    except ValueError:
        line = None
    return line if isinstance(line, dict) else {"ts": "", "level": "ERROR", "logger": "", "msg": text}


def text_line(line: dict[str, Any], paint: Paint) -> str:
    """One record for people: local time, level, whom it concerns, the message; further lines are indented."""
    level = words.safe(line.get("level", ""))
    where = words.safe(line.get("session") or line.get("worker") or line.get("logger") or "")
    message = words.safe(line.get("msg", ""), newlines=True).replace("\n", "\n    ")
    return f"{_local(str(line.get('ts', '')))} {paint(f'{level:<8}', _STYLES.get(level, ''))} {where}: {message}"


def _local(ts: str) -> str:
    try:
        return words.parse_time(ts).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return words.safe(ts) or words.NOTHING


def with_own_log(directory: Path) -> dict[str, Path]:
    """The sessions for which hermesd keeps a log besides the log of all, by their keys."""
    found = {}
    for path in directory.glob("*.log"):
        with contextlib.suppress(OSError), path.open("rb") as stream:
            found[str(parse(stream.readline()).get("session", ""))] = path
    found.pop("", None)
    return found


def named_in(path: Path, name: str) -> list[str]:
    """The sessions in the log of all that are meant by a name; searches the whole of it."""
    lines = last(path, Choice(session=name), 1 << 62)
    return naming.find(name, {str(line.get("session", "")) for line in lines})


def rotated(path: Path) -> Iterator[Path]:
    """The log files that exist, newest first: ``hermesd.log``, ``hermesd.log.1``, ..."""
    number = 0
    while True:
        file = path if number == 0 else path.with_name(f"{path.name}.{number}")
        if not file.exists():
            if number > 0:
                return
        else:
            yield file
        number += 1


def last(path: Path, choice: Choice, count: int, tail: Tail | None = None) -> list[dict[str, Any]]:
    """The last ``count`` wanted lines, oldest first, across rotations. ``tail`` then goes on where they end."""
    found: list[dict[str, Any]] = []
    for file in rotated(path):
        with file.open("rb") as stream:
            end = tail.take_over(stream) if tail and file == path else stream.seek(0, os.SEEK_END)
            for raw in backwards(stream, end):
                if len(found) >= count:
                    break
                line = parse(raw)
                if choice.is_before(line):
                    return found[::-1]
                if choice.wants(line):
                    found.append(line)
        if len(found) >= count:
            break
    return found[::-1]


def last_raw(path: Path, count: int, tail: Tail) -> list[bytes]:
    """The last ``count`` lines as they are, oldest first, across rotations. ``tail`` then goes on where they end."""
    found: list[bytes] = []
    for file in rotated(path):
        with file.open("rb") as stream:
            end = tail.take_over(stream) if file == path else stream.seek(0, os.SEEK_END)
            found += itertools.islice(backwards(stream, end), count - len(found))
        if len(found) >= count:
            break
    return found[::-1]


def backwards(stream: BinaryIO, end: int) -> Iterator[bytes]:
    """The lines of a binary file before ``end``, last first."""
    rest = b""
    while end > 0:
        start = max(0, end - _BLOCK)
        stream.seek(start)
        block = stream.read(end - start) + rest
        lines = block.split(b"\n")
        rest = lines[0]
        for line in reversed(lines[1:]):
            if line:
                yield line
        end = start
    if rest:
        yield rest


class Tail:
    """Follows a file through rotation: after a rename the old file is read to its end, then the new one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._offset = 0
        self._partial = b""

    def take_over(self, stream: BinaryIO) -> int:
        """Goes on behind the last whole line of ``stream``, the file that is open now; gives that place."""
        self.close()
        self._descriptor = os.dup(stream.fileno())  # shares its position with ``stream``, so only pread is used
        start = os.fstat(self._descriptor).st_size
        self._offset = 0
        while start > 0:
            block_start = max(0, start - _BLOCK)
            newline = os.pread(self._descriptor, start - block_start, block_start).rfind(b"\n")
            if newline >= 0:
                self._offset = block_start + newline + 1
                break
            start = block_start
        return self._offset

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def follow(self) -> Iterator[dict[str, Any]]:
        """Every new line, for ever; waits for a file that is not there yet."""
        return map(parse, self.follow_raw())

    def follow_raw(self) -> Iterator[bytes]:
        """The same as they are."""
        while True:
            lines = self.read_raw()
            yield from lines
            if not lines:
                time.sleep(_POLL)

    def read(self) -> list[dict[str, Any]]:
        """The lines that were completed since the last call."""
        return [parse(line) for line in self.read_raw()]

    def read_raw(self) -> list[bytes]:
        """The same as they are."""
        replaced = self._descriptor < 0 or self._is_replaced()
        raw = self._drain()
        if replaced:
            # The old file got its last line before the new one was made, and it was read after that was seen.
            if self._partial:
                raw.append(self._partial)
                self._partial = b""
            self._open()
            raw += self._drain()
        return [line for line in raw if line]

    def _drain(self) -> list[bytes]:
        if self._descriptor < 0:
            return []
        if self._offset > os.fstat(self._descriptor).st_size:  # cut in place
            self._offset, self._partial = 0, b""
        data = self._partial
        while block := os.pread(self._descriptor, _BLOCK, self._offset):
            self._offset += len(block)
            data += block
        *lines, self._partial = data.split(b"\n")
        return lines

    def _is_replaced(self) -> bool:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False  # between the two renames of a rotation, or removed: what is open may still grow
        opened = os.fstat(self._descriptor)
        return (found.st_dev, found.st_ino) != (opened.st_dev, opened.st_ino)

    def _open(self) -> None:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        self.close()
        self._descriptor, self._offset = descriptor, 0
