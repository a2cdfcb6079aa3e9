"""A Discord of ours: direct channels, one in which everything is answered, and one whose mentions begin threads."""

from __future__ import annotations

import random
import re
from typing import Any

from harness.discord.rest import Fault
from harness.discord.server import DiscordServer
from harness.discord.world import Call

from . import weather
from .network import Answer, Place, number_of
from .weather import Weather

PEOPLE = 4
SPARED = re.compile("^/(users/@me|oauth2|gateway|applications)")
"""Calls of a start: one that fails costs 30 s, and is tried elsewhere."""

ANYTHING = re.compile("")


class Discord:
    name = "discord"

    def __init__(self, server: DiscordServer, seed: int):
        self._server = server
        self.weather = Weather(seed)
        server.rest.weather = self._fault
        users = [f"user{number}" for number in range(PEOPLE)]
        self._channels = {user: server.direct(user) for user in users}
        self._channels |= {"free": server.channel("free"), "mentioned": server.channel("mentioned")}
        self.places = [Place(name, 0.3 if name == "mentioned" else 1.0, name != "mentioned") for name in self._channels]
        self._numbers: dict[str, int] = {}
        self._last = ("", "")
        extra = {**server.extra, "free_response_channels": [self._channels["free"]]}
        self.settings: dict[str, Any] = {"token": server.world.token, "extra": extra}
        allowed = ",".join(server.user_id(user) for user in users)
        self.env = {"DISCORD_ALLOWED_USERS": allowed, "HERMES_DISCORD_TEXT_BATCH_DELAY_SECONDS": "0"}

    def _fault(self, call: Call) -> Fault | None:
        trouble = None if SPARED.match(call.path) else self.weather.next()
        match trouble.kind if trouble is not None else "":
            case weather.CUT:
                return Fault("", ANYTHING, 1)
            case weather.LOST:
                return Fault("", ANYTHING, 1, carried_out=True)
            case weather.SLOW:
                return Fault("", ANYTHING, 1, status=200, carried_out=True, delay=trouble.seconds)  # type: ignore[union-attr]
            case weather.LIMITED:
                return self._server.limited(ANYTHING, trouble.seconds)  # type: ignore[union-attr]
            case weather.UNWELL:
                return Fault("", ANYTHING, 1, status=trouble.status)  # type: ignore[union-attr]
            case weather.UNWELL_LATE:
                return Fault("", ANYTHING, 1, status=trouble.status, carried_out=True)  # type: ignore[union-attr]
        return None

    def say(self, place: Place, text: str) -> None:
        channel = self._channels[place.name]
        mention = f"{self._server.mention} " if place.name == "mentioned" else ""
        user = place.name if place.name.startswith("user") else "user0"
        said = self._server.say(channel, f"{mention}{text}", user=user)
        number = number_of(text)
        assert number is not None
        self._numbers[said] = number
        self._last = (channel, said)

    def chat(self, place: Place) -> str:
        return self._channels[place.name]

    def disturb(self, chance: random.Random) -> None:
        """The gateway's part of the weather."""
        what = chance.choice(("message delivered twice", *[""] * 8, "dropped", "cut", "told to reconnect", "invalid"))
        match what:
            case "message delivered twice":
                self._server.repeat(*self._last)
            case "dropped":
                self._server.drop(4000)
            case "cut":
                self._server.cut()
            case "told to reconnect":
                self._server.reconnect()
            case "invalid":
                self._server.invalidate()
            case _:
                return
        self.weather.met[what if what.startswith("message") else f"gateway {what}"] += 1

    def answers(self) -> tuple[dict[int, list[Answer]], list[str]]:
        found: dict[int, list[Answer]] = {}
        strays = []
        for message in self._server.by_bot():
            asked = (message.get("message_reference") or {}).get("message_id") or message["channel_id"]
            files = tuple(file["filename"] for file in message["attachments"])
            number = self._numbers.get(asked, number_of(message["content"], *files))
            if number is None:
                strays.append(message["content"])
            else:
                found.setdefault(number, []).append(Answer(message["content"], int(message["id"]), files))
        return found, strays

    def connections(self) -> int:
        return self._server.gateway.identifies + self._server.gateway.resumes
