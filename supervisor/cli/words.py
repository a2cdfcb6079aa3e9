"""Figures as people read them, and back. Pure; the moment "now" is a parameter."""

from __future__ import annotations

import re
from datetime import UTC, datetime

NOTHING = "-"

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")

# Control characters could move the cursor or retitle the terminal, bidirectional ones could reorder what is shown.
_UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def safe(text: object, newlines: bool = False) -> str:
    """Text from a chat, a tool or a log, made harmless for a terminal. Tabs become spaces, other controls ``\\x1b``."""
    shown = _UNSAFE.sub(lambda match: _escape(match.group()), str(text)).replace("\t", "    ")
    return shown if newlines else shown.replace("\n", "\\n")


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def duration(seconds: float | None) -> str:
    """At most two units: ``0.4s``, ``41s``, ``3m 20s``, ``2d 4h``."""
    if seconds is None:
        return NOTHING
    if seconds < 0:
        return "0s"
    if seconds < 10 and seconds != int(seconds):
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for (big, size), (small, small_size) in (
        (("d", 86400), ("h", 3600)),
        (("h", 3600), ("m", 60)),
        (("m", 60), ("s", 1)),
    ):
        if whole >= size:
            rest = whole % size // small_size
            return f"{whole // size}{big} {rest}{small}" if rest else f"{whole // size}{big}"
    return f"{whole}s"


def short_duration(seconds: float | None) -> str:
    """One unit, for table cells: ``41s``, ``3m``, ``2d``."""
    return duration(seconds).split(" ")[0] if seconds is None or seconds >= 10 else f"{max(0, int(seconds))}s"


def ago(seconds: float | None) -> str:
    return NOTHING if seconds is None else f"{short_duration(seconds)} ago"


def size(count: int | None) -> str:
    """``812B``, ``9.5K``, ``120M``, ``1.2G``; 1K is 1024 bytes."""
    if count is None:
        return NOTHING
    if count < 1024:
        return f"{count}B"
    amount = float(count)
    for unit in "KMGTP":
        amount /= 1024
        if amount < 1023.5 or unit == "P":
            break
    return f"{amount:.1f}{unit}" if amount < 9.95 else f"{amount:.0f}{unit}"


def cpu_time(seconds: float | None) -> str:
    """As top has it, with hours in front from 100 minutes on: ``0:00.41``, ``12:07.30``, ``3:05:00``."""
    if seconds is None:
        return NOTHING
    hundredths = round(seconds * 100)
    minutes, rest = divmod(hundredths, 6000)
    if minutes < 100:
        return f"{minutes}:{rest // 100:02d}.{rest % 100:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest // 100:02d}"


def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def count(number: int, noun: str) -> str:
    """``1 process``, ``2 processes``, ``0 workers``."""
    plural = noun + ("es" if noun.endswith(("s", "x", "ch")) else "s")
    return f"{number} {noun if number == 1 else plural}"


def parse_time(text: str) -> datetime:
    """An RFC 3339 time. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def seconds_since(text: str | None, now: datetime) -> float | None:
    """How long ago an RFC 3339 time was; None for none, or for one that nobody can read."""
    if not text:
        return None
    try:
        return (now - parse_time(text)).total_seconds()
    except ValueError:
        return None


def parse_duration(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``10m``, ``1h30m``. Raises ValueError with a sentence."""
    stripped = text.strip().lower().replace(" ", "")
    if re.fullmatch(r"\d+(?:\.\d+)?", stripped):
        return float(stripped)
    if not _DURATION.fullmatch(stripped):
        raise ValueError(f"{text!r} is not a duration; use 30, 30s, 10m, 1h30m or 2d")
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(stripped))
