"""Times of many rounds in a few numbers."""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Sequence
from typing import ClassVar


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that ``share`` of all are not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def summary(values: Sequence[float]) -> dict[str, float]:
    """Seconds to milliseconds: median, p99, and worst."""
    if not values:
        return {"count": 0}
    return {
        "count": len(values),
        "p50_ms": round(quantile(values, 0.5) * 1000, 2),
        "p99_ms": round(quantile(values, 0.99) * 1000, 2),
        "max_ms": round(max(values) * 1000, 2),
    }


STRICT = False
"""Set by ``scripts/soak``. Tests share their machine with anything, a soak is run to be believed."""


def allowed(promised: float, on_a_busy_machine: float) -> float:
    """The limit for a time: what is promised, or, in tests, also what this machine needs at the moment."""
    return promised if STRICT else max(promised, on_a_busy_machine)


class StopWatch:
    """Seconds since it was made, but for those in which nothing here ran: a virtual machine may stand still for two,
    and that is no slowness of what is measured. A soak is run to be believed, and there all of them count.
    """

    def __init__(self) -> None:
        _Standstill.look_for(self)
        self._began, self._still = time.monotonic(), _Standstill.so_far()

    def seconds(self) -> float:
        took = time.monotonic() - self._began
        return max(0.0, took - self.lost())

    def lost(self) -> float:
        """Those in which nothing ran."""
        return 0.0 if STRICT else _Standstill.so_far() - self._still


class _Standstill(threading.Thread):
    """Adds up how much later than it wanted to it is woken, as long as there is a watch."""

    EVERY, NOTHING = 0.05, 0.1

    _watches: ClassVar[weakref.WeakSet[StopWatch]] = weakref.WeakSet()
    _guard: ClassVar[threading.Lock] = threading.Lock()
    _running: ClassVar[_Standstill | None] = None
    _seen: ClassVar[tuple[float, float]] = (0.0, 0.0)  # seconds lost, and when that was counted

    @classmethod
    def look_for(cls, watch: StopWatch) -> None:
        with cls._guard:
            cls._watches.add(watch)
            if cls._running is None:
                cls._seen = cls._seen[0], time.monotonic()
                cls._running = cls(name="standstill", daemon=True)
                cls._running.start()

    @classmethod
    def so_far(cls) -> float:
        lost, looked = cls._seen
        late = time.monotonic() - looked - cls.EVERY
        return lost + (late if late > cls.NOTHING else 0.0)

    def run(self) -> None:
        cls = type(self)
        while True:
            time.sleep(self.EVERY)
            with cls._guard:
                cls._seen = cls.so_far(), time.monotonic()
                if not cls._watches:
                    cls._running = None
                    return
