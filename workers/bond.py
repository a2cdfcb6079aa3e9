"""What keeps a worker alive: its keeper; without one, a supervisor that speaks. Pure.

A keeper's death is evidence, a supervisor's silence is not. But a worker whose keeper is dead has nobody to empty its
container, so for it the silence counts: with neither for ``adopt_timeout`` it ends, and all below it.
"""

from __future__ import annotations

from enum import StrEnum

from .patience import Stretch

RENEW_EVERY = 1.0
"""Seconds after which a supervisor that was heard winds the watchdog up again."""


class Verdict(StrEnum):
    """What to do about it now."""

    GO_ON = "go on"
    WIND_UP = "wind up"  # the watchdog, from the beginning
    END = "end"


class Bond:
    """``adopt_timeout`` in seconds; 0 = the worker ends with its keeper."""

    def __init__(self, adopt_timeout: float):
        self._adopt_timeout = adopt_timeout
        self.keeperless = False
        self._silent = Stretch()
        self._heard: float | None = None
        self._wound_up: float | None = None

    def keeper_died(self) -> None:
        self.keeperless = True
        self._silent = Stretch()
        self._wound_up = None

    def kept(self) -> None:
        """Another keeper holds it."""
        self.keeperless = False

    def look(self, heard: float | None, now: float) -> Verdict:
        """To be called every `hermesd.workers.patience.LOOK_EVERY` seconds while it is keeperless.

        ``heard``: when the supervisor was heard last, None = never.
        """
        if not self.keeperless:
            return Verdict.GO_ON
        news = heard is not None and heard != self._heard
        self._heard = heard
        if news and self._wound_up is not None:
            self._silent = Stretch()
        self._silent = self._silent.look(now)
        if self._silent.lasted >= self._adopt_timeout:
            return Verdict.END
        if self._wound_up is None or (news and now - self._wound_up >= RENEW_EVERY):
            self._wound_up = now
            return Verdict.WIND_UP
        return Verdict.GO_ON
