"""How long to wait after a crash, and when to stop trying. Pure: times in, verdicts out."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

FIRST_DELAY = 0.2
"""Seconds after the first crash: short, for most crashes happen once and somebody waits for an answer."""

MAX_DELAY = 30.0

QUARANTINE_AFTER = 5
"""Crashes of one session within `CRASH_WINDOW` that take it out of service; OTP's intensity idea, per session."""

CRASH_WINDOW = 60.0

QUARANTINE_SECONDS = 15 * 60.0

ESCALATE_AFTER = 20
"""More crashes than this within `CRASH_WINDOW` over all sessions: the fault is not a session's, hermesd exits 75."""


def delay(crashes: int, jitter: float) -> float:
    """Seconds to wait before start number ``crashes + 1``; ``jitter`` in 0..1 takes up to half of it off."""
    full = min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(max(0, crashes - 1), 16))
    return full * (1.0 - jitter / 2.0)


@dataclass(slots=True)
class CrashWindow:
    """The crashes of the last `CRASH_WINDOW` seconds, on the monotonic clock."""

    times: deque[float] = field(default_factory=deque)

    def add(self, now: float) -> int:
        """Note a crash; returns how many the window holds now."""
        self.times.append(now)
        return self.count(now)

    def count(self, now: float) -> int:
        while self.times and now - self.times[0] > CRASH_WINDOW:
            self.times.popleft()
        return len(self.times)

    def clear(self) -> None:
        self.times.clear()
