"""The emulated Telegram: private chats and a group."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from harness.telegram import errors
from harness.telegram.emulator import Emulator
from harness.telegram.faults import Fault
from harness.telegram.world import Chat, User

from . import weather
from .network import Answer, Place, number_of
from .weather import Weather

PEOPLE = 8
SPARED = ("getme", "deletewebhook", "setmycommands")
"""Calls of a start: one that fails costs 30 s, and is tried elsewhere."""


class Telegram:
    name = "telegram"

    def __init__(self, telegram: Emulator, seed: int):
        self._telegram = telegram
        self.weather = Weather(seed)
        telegram.server.faults.weather = self._fault
        self._users = [telegram.user(f"User {number}") for number in range(PEOPLE)]
        self._group = telegram.group("A group")
        self.places = [Place(f"user {number}") for number in range(PEOPLE)]
        self.places.append(Place("group", 0.3))  # Telegram takes 20 messages a minute there
        self._numbers: dict[tuple[int, int], int] = {}
        self.repeated: Counter[str] = Counter()
        self.settings: dict[str, Any] = {"token": telegram.token, "extra": {"base_url": telegram.base_url}}
        self.env = {"TELEGRAM_ALLOW_ALL_USERS": "true", "HERMES_TELEGRAM_TEXT_BATCH_DELAY_SECONDS": "0"}

    def _fault(self, method: str) -> Fault | None:
        trouble = None if method in SPARED else self.weather.next()
        match trouble.kind if trouble is not None else "":
            case weather.CUT:
                return Fault(method, cut="before")
            case weather.LOST:
                return Fault(method, cut="after")
            case weather.SLOW:
                return Fault(method, delay=trouble.seconds)  # type: ignore[union-attr]
            case weather.LIMITED:
                return Fault(method, error=errors.retry_after(1))
            case weather.UNWELL:
                return Fault(method, status=trouble.status)  # type: ignore[union-attr]
            case weather.UNWELL_LATE:
                return Fault(method, status=trouble.status, cut="after")  # type: ignore[union-attr]
        return None

    def _where(self, place: Place) -> tuple[User, Chat]:
        if place.name == "group":
            return self._users[0], self._group
        user = self._users[self.places.index(place)]
        return user, self._telegram.private(user)

    def say(self, place: Place, text: str) -> None:
        user, chat = self._where(place)
        said = self._telegram.say(text, user, chat)
        number = number_of(text)
        assert number is not None
        self._numbers[chat.id, said] = number

    def chat(self, place: Place) -> str:
        return str(self._where(place)[1].id)

    def disturb(self, chance: random.Random) -> None:
        """An update comes once more, under another id."""
        if self._numbers and chance.random() < 0.1:
            chat, message = list(self._numbers)[-1]
            self._telegram.again(self._telegram.server.world.chats[chat], message)
            self.weather.met["message delivered twice"] += 1

    def answers(self) -> tuple[dict[int, list[Answer]], list[str]]:
        found: dict[int, list[Answer]] = {}
        strays = []
        for message in self._telegram.sent():
            asked = message.reply_to
            files = (message.file.name,) if message.file is not None else ()
            known = self._numbers.get((message.chat.id, asked.id)) if asked is not None else None
            number = known if known is not None else number_of(message.text, *files)
            if number is None:
                strays.append(message.text)
            else:
                found.setdefault(number, []).append(Answer(message.text, message.id, files))
        for texts in found.values():
            texts.sort(key=lambda answer: answer.at)
        return found, strays

    def connections(self) -> int:
        return len(self._telegram.calls("getMe"))
