"""What goes wrong at Telegram on a test's command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import errors

ANY = "*"

CUTS = ("before", "after", "hang")


@dataclass(slots=True)
class Fault:
    """The next ``count`` calls of a method fail.

    ``error`` is answered; or ``cut``: the connection breaks "before" the call is acted on or "after" it, or it is
    acted on and never answered ("hang"). ``status`` answers with something that is no JSON, as a proxy does; with
    ``cut`` "after" it comes when the call was acted on. ``delay`` holds it up first, for so many seconds.
    """

    method: str
    count: int = 1
    error: errors.ApiError | None = None
    cut: str = ""
    status: int = 0
    delay: float = 0.0


class Faults:
    """``weather`` is asked for what was not planned."""

    def __init__(self) -> None:
        self._planned: list[Fault] = []
        self.weather: Callable[[str], Fault | None] = lambda method: None

    def plan(self, fault: Fault) -> None:
        if fault.cut and fault.cut not in CUTS:
            raise ValueError(f"cannot cut {fault.cut!r}: known are {', '.join(CUTS)}")
        self._planned.append(fault)

    def clear(self) -> None:
        self._planned.clear()

    def next(self, method: str) -> Fault | None:
        for fault in self._planned:
            if fault.count > 0 and fault.method.lower() in (ANY, method):
                fault.count -= 1
                return fault
        return self.weather(method)
