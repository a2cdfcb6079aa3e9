"""What befalls the calls of a bot, by chance: they break, take long, are refused, or get the wrong answer."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

CUT = "cut before it was carried out"
LOST = "carried out, and cut"
SLOW = "held up"
LIMITED = "answered 429"
UNWELL = "answered 5xx"
UNWELL_LATE = "carried out, and answered 5xx"
KINDS = (CUT, LOST, SLOW, LIMITED, UNWELL, UNWELL_LATE)

STATUSES = (500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Trouble:
    """``seconds``: how long it is held up, or how long the bot is asked to wait."""

    kind: str
    seconds: float
    status: int


class Weather:
    """Asked for each call by the server that serves it. ``share`` of all calls meet trouble, 0 until it is set."""

    def __init__(self, seed: int):
        self._chance = random.Random(seed)
        self.share = 0.0
        self.met: Counter[str] = Counter()

    def next(self, part: float = 1.0) -> Trouble | None:
        """What befalls this call. ``part``: of the share, for calls after whose failure a library waits long."""
        if self._chance.random() >= self.share * part:
            return None
        kind = self._chance.choice(KINDS)
        self.met[kind] += 1
        seconds = self._chance.uniform(0.05, 1.0) if kind == SLOW else 1.0
        return Trouble(kind, seconds, self._chance.choice(STATUSES))
