"""Lines for people: aligned tables without box lines, colour that only repeats what the words say. Pure."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

GAP = "  "
CUT = "…"
NARROWEST = 8  # columns that a cut cell keeps

_STYLES = {"green": "32", "yellow": "33", "red": "31", "cyan": "36", "dim": "2", "bold": "1"}

STATE_STYLES: Mapping[str, str] = {
    "running": "green", "connected": "green", "online": "green", "ok": "green", "idle": "green", "busy": "cyan",
    "waiting": "yellow", "starting": "yellow", "connecting": "yellow", "degraded": "yellow", "warning": "yellow",
    "draining": "yellow", "stopping": "yellow", "backoff": "yellow", "backing_off": "yellow", "quarantined": "red",
    "unavailable": "red", "failed": "red", "error": "red", "dead": "red", "unresponsive": "red", "stopped": "dim",
    "hibernated": "dim", "failing": "red", "lost": "red", "refused": "yellow", "ambiguous": "yellow", "dropped": "dim",
    "answered": "green", "sent": "green", "ready": "green", "good": "green", "trying": "yellow", "asking": "yellow",
    "parked": "red", "broken": "red", "untried": "dim",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Paint:
    """Puts styles around words, or leaves them alone."""

    on: bool

    def __call__(self, text: str, style: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.on and style else text

    def state(self, word: str, shown: str = "") -> str:
        return self(shown or word, STATE_STYLES.get(word, ""))


def wants_color(choice: str, stream: TextIO, env: Mapping[str, str] = os.environ) -> bool:
    """``choice`` is --color. By itself: only on a terminal that can, and unless NO_COLOR says no."""
    if choice != "auto":
        return choice == "always"
    if env.get("NO_COLOR"):
        return False
    if env.get("FORCE_COLOR"):
        return True
    return stream.isatty() and env.get("TERM") != "dumb"


def terminal_width(stream: TextIO) -> int | None:
    """Columns of the terminal; None when it is none, and then nothing is cut."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    right: bool = False  # figures
    shrinks: bool = False  # is cut first where the terminal is narrow
    states: bool = False  # its words are states and get their colour


def table(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], paint: Paint, width: int | None = None
) -> list[str]:
    """One line per row below a line of titles; cells are plain text. ``width`` None: nothing is cut."""
    lines = [[column.title for column in columns], *([*row] for row in rows)]
    widths = [max(display_width(line[place]) for line in lines) for place in range(len(columns))]
    if width is not None:
        _shrink(columns, widths, width)
    result = []
    for number, line in enumerate(lines):
        cells = []
        for place, (column, cell, room) in enumerate(zip(columns, line, widths, strict=True)):
            shown = cut(cell, room)
            padding = " " * (room - display_width(shown))
            if number == 0:
                shown = paint(shown, "bold")
            elif column.states:
                shown = paint.state(cell.split("(")[0], shown)
            last = place == len(columns) - 1
            cells.append(padding + shown if column.right else shown + ("" if last else padding))
        result.append(GAP.join(cells).rstrip())
    return result


def _shrink(columns: Sequence[Column], widths: list[int], width: int) -> None:
    over = sum(widths) + len(GAP) * (len(widths) - 1) - width
    while over > 0:
        places = [place for place, column in enumerate(columns) if column.shrinks and widths[place] > NARROWEST]
        if not places:
            return
        widest = max(places, key=lambda place: widths[place])
        widths[widest] -= 1
        over -= 1


def cut(text: str, room: int) -> str:
    """``text`` in at most ``room`` columns."""
    if display_width(text) <= room:
        return text
    kept: list[str] = []
    left = room - 1
    for character in text:
        left -= display_width(character)
        if left < 0:
            break
        kept.append(character)
    return "".join(kept) + CUT


def display_width(text: str) -> int:
    """Columns that a terminal uses for it."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) != 0 for character in text)


def branches(depths: Sequence[int]) -> list[str]:
    """The lines in front of the rows of a tree, given the depth of each row in order; depth 0 has none."""
    result = []
    for place, depth in enumerate(depths):
        prefix = ""
        for level in range(1, depth + 1):
            later = _has_sibling(depths, place, level)
            if level == depth:
                prefix += "├─ " if later else "└─ "
            else:
                prefix += "│  " if later else "   "
        result.append(prefix)
    return result


def _has_sibling(depths: Sequence[int], place: int, level: int) -> bool:
    for depth in depths[place + 1 :]:
        if depth <= level:
            return depth == level
    return False


def json_line(document: object, stream: TextIO | None = None, indent: int | None = None) -> None:
    """One JSON document and a line end, flushed: the reader of a pipe gets it now."""
    import json

    target = stream or sys.stdout
    target.write(json.dumps(document, indent=indent, ensure_ascii=False, default=str) + "\n")
    target.flush()
