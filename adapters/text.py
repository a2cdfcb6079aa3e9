"""Text at a platform's edge: cleaned on the way in, measured and split on the way out."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Unit = Callable[[str], int]
"""Measures a text as a platform does. Additive: the length of a concatenation is the sum of the lengths."""

NAME_LIMIT = 128
SMALLEST_LIMIT = 32

# C0 without \n and \t, DEL, and C1: a terminal takes U+009B for the start of an escape sequence.
_CONTROL = {code: None for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$")
_FENCE_START = re.compile(r" {0,3}(?:`{3}|~{3})")

# A piece of a longer line must not open or close a fence: before one that would, a zero-width space.
_NO_FENCE = "\u200b"


def characters(text: str) -> int:
    """Unicode code points (Discord's unit)."""
    return len(text)


def utf16_units(text: str) -> int:
    """UTF-16 code units (Telegram's unit): what is outside the basic plane counts twice."""
    return len(text) + sum(1 for char in text if ord(char) > 0xFFFF)


def utf8_bytes(text: str) -> int:
    """Bytes in UTF-8 (Matrix' unit)."""
    return len(text.encode("utf-8", "surrogatepass"))


def clean(text: str) -> str:
    """Make any string from outside safe for the journal, the wire and a terminal.

    Surrogate pairs are joined and lone surrogates become U+FFFD; line ends become ``\\n``; control characters other
    than ``\\n`` and ``\\t`` are dropped.
    """
    if text.isascii() and text.isprintable():
        return text
    if any("\ud800" <= char <= "\udfff" for char in text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_CONTROL)


def chat_name_problem(name: str) -> str:
    """Why a chat that a user names cannot be called so, or "". For names that become part of a session's key."""
    if not name:
        return "it is empty"
    if len(name) > NAME_LIMIT:
        return f"it has {len(name)} characters, {NAME_LIMIT} are allowed"
    if not name.isprintable() or any(char.isspace() for char in name):
        return "it holds a space or a control character"
    return ""


def split(text: str, limit: int, unit: Unit = characters) -> list[str]:
    """Cut ``text`` into messages of at most ``limit`` units, at lines or spaces where there are any.

    A code fence that fits into one message is never cut; a longer one is closed at the end of a message and opened
    again, with its language, in the next. Raises `ValueError` for a limit under `SMALLEST_LIMIT`.
    """
    if limit < SMALLEST_LIMIT:
        raise ValueError(f"cannot split into messages of {limit} units: at least {SMALLEST_LIMIT} are needed")
    if unit(text) <= limit:
        return [text] if text.strip() else []
    packer = _Packer(limit, unit)
    for block in _blocks(text):
        packer.add(block)
    return packer.messages()


@dataclass(frozen=True, slots=True)
class _Block:
    """A line of prose, or a whole code fence with its opening line (its closing line is made anew)."""

    lines: tuple[str, ...]
    opener: str = ""

    @property
    def closer(self) -> str:
        match = _FENCE.match(self.opener)
        return match.group(1) if match else ""


def _blocks(text: str) -> Iterator[_Block]:
    fenced: list[str] = []
    marker = ""
    for line in text.split("\n"):
        match = _FENCE.match(line)
        if not marker:
            # CommonMark: a backtick in the info string makes it inline code, not a fence.
            if match and not (match.group(1)[0] == "`" and "`" in match.group(2)):
                marker, fenced = match.group(1), [line]
            else:
                yield _Block((line,))
        elif match and not match.group(2).strip() and match.group(1).startswith(marker):
            yield _Block(tuple(fenced[1:]), opener=fenced[0])
            marker = ""
        else:
            fenced.append(line)
    if marker:
        yield _Block(tuple(fenced[1:]), opener=fenced[0])


class _Packer:
    """Fills messages line by line; knows how much room an open fence still needs for its closing line."""

    def __init__(self, limit: int, unit: Unit):
        self._limit = limit
        self._unit = unit
        self._done: list[str] = []
        self._lines: list[str] = []
        self._used = 0

    def messages(self) -> list[str]:
        self._flush()
        return self._done

    def add(self, block: _Block) -> None:
        if not block.opener:
            self._add_prose(block.lines[0])
            return
        whole = [block.opener, *block.lines, block.closer]
        if not self._fits(*whole) and self._cost(*whole) - 1 <= self._limit:
            self._flush()
        if self._fits(*whole):
            self._put(*whole)
        else:
            self._add_long_fence(block)

    def _add_prose(self, line: str) -> None:
        if not self._fits(line) and self._unit(line) <= self._limit:
            self._flush()
        while not self._fits(line):
            if self._lines and self._limit - self._used < self._limit // 2:
                self._flush()
                continue
            head, line = self._cut(line, self._limit - self._used - self._join, prefer_space=True)
            self._put(head)
            self._flush()
        self._put(line)

    def _add_long_fence(self, block: _Block) -> None:
        opener, closer = block.opener, block.closer
        lines = block.lines
        if self._unit(opener) + self._unit(closer) > self._limit // 2:
            info = opener.strip().removeprefix(closer)
            lines = tuple(_NO_FENCE + line if _FENCE_START.match(line) else line for line in (info, *lines))
            opener = closer = closer[:3]
        frame = self._unit(opener) + self._unit(closer) + 2
        if self._limit - self._used < frame + self._limit // 4:
            self._flush()
        self._put(opener)
        fresh = True
        for line in lines:
            while not self._fits(line, closer):
                if fresh:
                    room = self._limit - self._used - self._unit(closer) - 2
                    head, line = self._cut(line, room, prefer_space=False)
                    self._put(head)
                self._put(closer)
                self._flush()
                self._put(opener)
                fresh = True
            self._put(line)
            fresh = False
        self._put(closer)

    @property
    def _join(self) -> int:
        return 1 if self._lines else 0

    def _cost(self, *lines: str) -> int:
        return sum(self._unit(line) + 1 for line in lines)

    def _fits(self, *lines: str) -> bool:
        return self._used + self._join + self._cost(*lines) - 1 <= self._limit

    def _put(self, *lines: str) -> None:
        self._used += self._join + self._cost(*lines) - 1
        self._lines.extend(lines)

    def _flush(self) -> None:
        message = "\n".join(self._lines)
        if message.strip():
            self._done.append(message.strip("\n"))
        self._lines, self._used = [], 0

    def _cut(self, line: str, room: int, *, prefer_space: bool) -> tuple[str, str]:
        if _FENCE_START.match(line):
            line = _NO_FENCE + line
        end = used = 0
        for char in line:
            used += self._unit(char)
            if used > room:
                break
            end += 1
        places = range(end, max(end - 64, 0), -1)
        spaces = [place for place in range(end, end // 2, -1) if prefer_space and line[place] == " "]
        for place, after in [*((place, place + 1) for place in spaces), *((place, place) for place in places)]:
            if not _FENCE_START.match(line, after) and not _sticks(line[place - 1], line[place]):
                return line[:place], line[after:]
        return line[:end], _NO_FENCE + line[end:]


def _sticks(before: str, after: str) -> bool:
    """Whether a cut between two characters would tear one visible sign apart."""
    joiner = "\u200d"
    return joiner in (before, after) or after == "\ufe0f" or unicodedata.combining(after) != 0
