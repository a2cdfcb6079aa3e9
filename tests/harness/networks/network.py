"""One chat network with people who write numbered messages, whatever it is made of."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Any, Protocol

from .weather import Weather

NUMBER = re.compile(r"number[ -](\d+)")


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody writes. ``weight``: how often, beside the others; ``ordered``: all of it is one conversation."""

    name: str
    weight: float = 1.0
    ordered: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """One message of the bot as it reads now, and the names of its files. ``at`` orders those of a place."""

    text: str
    at: Any
    files: tuple[str, ...] = ()


class Network(Protocol):
    """Used by one thread at a time. ``settings`` and ``env`` are what hermesd needs to talk to it."""

    name: str
    settings: dict[str, Any]
    env: dict[str, str]
    places: list[Place]
    weather: Weather

    def say(self, place: Place, text: str) -> None:
        """Somebody writes ``text``, which holds ``number N``; N is used once."""

    def chat(self, place: Place) -> str:
        """The id that hermesd knows it by."""

    def disturb(self, chance: random.Random) -> None:
        """What comes unasked: an event for the second time, a dropped connection."""

    def answers(self) -> tuple[dict[int, list[Answer]], list[str]]:
        """What the bot has said to each number, oldest first, and what it has said to none."""

    def connections(self) -> int:
        """How often the bot has connected so far, resumed connections included."""


def number_of(*texts: str) -> int | None:
    """The number that a text speaks of, or the name of a file."""
    found = next(filter(None, map(NUMBER.search, texts)), None)
    return int(found[1]) if found else None
