"""How an adapter's connection is, and since when."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from hermesd.adapters.contract import State


class Standing:
    """Keeps what `Adapter.state` says. ``now``: Unix seconds."""

    def __init__(self, now: Callable[[], float] = time.time):
        self._now = now
        self._state = State("stopped", since=now())
        self.received_at = 0.0

    @property
    def word(self) -> str:
        return self._state.word

    def become(self, word: str, detail: str = "", fix: str = "") -> None:
        """A word that is the same as before keeps its age, whatever else is said."""
        since = self._state.since if word == self._state.word else self._now()
        self._state = State(word, detail, since, fix=fix)

    def alive(self) -> None:
        """The platform has given a sign of life."""
        self.received_at = self._now()

    def shown(self) -> State:
        return replace(self._state, received_at=self.received_at)
