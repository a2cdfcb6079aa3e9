"""A real Synapse with a proxy before it that lets the bot's calls meet the weather: direct chats and a room."""

from __future__ import annotations

import random
from typing import Any

from aiohttp import web

from harness.matrix.person import Person
from harness.matrix.proxy import Proxy
from harness.matrix.synapse import Synapse

from .network import Answer, Place, number_of
from .weather import Trouble, Weather

PEOPLE = 6
SYNC_PART = 0.3
"""mautrix waits five seconds after a sync that failed, and then twice as long."""


class Matrix:
    name = "matrix"

    def __init__(self, server: Synapse, proxy: Proxy, seed: int):
        self.weather = Weather(seed)
        self._proxy = proxy
        proxy.trouble = self._trouble
        self._bot = server.person("bot")
        self._people = [server.person("person") for _ in range(PEOPLE)]
        self._rooms = [person.create_room(self._bot.user_id, direct=True) for person in self._people]
        other = server.person("other")
        self._shared = self._people[0].create_room(self._bot.user_id, other.user_id)
        other.join(self._shared)
        other.close()
        self.places = [Place(f"person {number}") for number in range(PEOPLE)]
        self.places.append(Place("room", 0.3, ordered=False))  # each message begins a thread of its own
        self._numbers: dict[str, int] = {}
        self.settings: dict[str, Any] = {}
        self.env = {
            "MATRIX_HOMESERVER": proxy.url, "MATRIX_ACCESS_TOKEN": self._bot.token,
            "MATRIX_ALLOWED_USERS": ",".join(person.user_id for person in self._people),
            "HERMES_MATRIX_TEXT_BATCH_DELAY_SECONDS": "0",
        }  # fmt: skip

    def _trouble(self, request: web.Request) -> Trouble | None:
        if request.path.endswith("/sync"):
            return self.weather.next(SYNC_PART) if "since" in request.query else None
        return self.weather.next() if "/rooms/" in request.path else None

    def _where(self, place: Place) -> tuple[Person, str]:
        if place.name == "room":
            return self._people[0], self._shared
        number = self.places.index(place)
        return self._people[number], self._rooms[number]

    def say(self, place: Place, text: str) -> None:
        person, room = self._where(place)
        said = person.say(room, text, mention=self._bot.user_id if room == self._shared else "")
        number = number_of(text)
        assert number is not None
        self._numbers[said] = number

    def chat(self, place: Place) -> str:
        return self._where(place)[1]

    def disturb(self, chance: random.Random) -> None:
        """A sync whose answer was cut is repeated: that is the proxy's part."""

    def answers(self) -> tuple[dict[int, list[Answer]], list[str]]:
        found: dict[int, list[Answer]] = {}
        strays = []
        for person in self._people:
            person.look()
        places = [*zip(self._people, self._rooms, strict=True), (self._people[0], self._shared)]
        for person, room in places:
            for at, event in enumerate(person.messages(room, self._bot.user_id)):
                content = event["content"]
                asked = content.get("m.relates_to", {}).get("m.in_reply_to", {}).get("event_id", "")
                files = (content["filename"],) if "filename" in content else ()
                text = "" if files == (content["body"],) else content["body"]
                number = self._numbers.get(asked, number_of(text, *files))
                if number is None:
                    strays.append(content["body"])
                else:
                    found.setdefault(number, []).append(Answer(text, at, files))
        return found, strays

    def connections(self) -> int:
        return self._proxy.count("/account/whoami")

    def close(self) -> None:
        for person in (self._bot, *self._people):
            person.close()
