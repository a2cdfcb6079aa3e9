"""Anna, as the client of each network shows it to her: what she can do there, and how the bot's messages read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from harness.discord.server import DiscordServer
from harness.matrix.person import Event
from harness.matrix.synapse import Synapse
from harness.telegram.emulator import Emulator
from harness.telegram.world import Message

SIGNS = {"approve": "✅", "deny": "❌"}


@dataclass(frozen=True, slots=True)
class Shown:
    """One message of the bot as it reads now. ``edits``: how often it was changed; ``choices``: its buttons."""

    id: str
    text: str
    edits: int = 0
    choices: tuple[str, ...] = ()
    files: tuple[tuple[str, bytes], ...] = ()  # name and content


class Anna(Protocol):
    """On one network, in a direct chat with the bot. Used by one thread at a time."""

    network: str
    how_she_presses: str
    settings: dict[str, Any]
    env: dict[str, str]

    def say(self, text: str) -> str:
        """Returns the message's id."""

    def photo(self, data: bytes, name: str, caption: str) -> str: ...

    def press(self, shown: Shown, choice: str) -> None: ...

    def shown(self) -> list[Shown]:
        """All that the bot has written here, oldest first."""


class OnTelegram:
    network = "telegram"
    how_she_presses = "presses the button"

    def __init__(self, telegram: Emulator):
        self._telegram = telegram
        self._anna = telegram.user("Anna")
        self._chat = telegram.private(self._anna)
        self.settings: dict[str, Any] = {"token": telegram.token, "extra": {"base_url": telegram.base_url}}
        self.env = {"TELEGRAM_ALLOWED_USERS": str(self._anna.id)}

    def say(self, text: str) -> str:
        return str(self._telegram.say(text, self._anna))

    def photo(self, data: bytes, name: str, caption: str) -> str:
        return str(self._telegram.send("photo", data, self._anna, name=name, caption=caption))

    def press(self, shown: Shown, choice: str) -> None:
        self._telegram.press(self._anna, self._chat, int(shown.id), choice)

    def shown(self) -> list[Shown]:
        found = sorted(self._telegram.sent(self._chat), key=lambda message: message.id)
        return [self._read(message) for message in found]

    @staticmethod
    def _read(message: Message) -> Shown:
        rows = (message.markup or {}).get("inline_keyboard", [])
        choices = tuple(button["text"] for row in rows for button in row)
        files = ((message.file.name, message.file.data),) if message.file is not None else ()
        return Shown(str(message.id), message.text, len(message.history), choices, files)


class OnDiscord:
    network = "discord"
    how_she_presses = "presses the button"

    def __init__(self, server: DiscordServer):
        self._server = server
        self._channel = server.direct("anna")
        self.settings: dict[str, Any] = {"token": server.world.token, "extra": server.extra}
        self.env = {"DISCORD_ALLOWED_USERS": server.user_id("anna")}

    def say(self, text: str) -> str:
        return self._server.say(self._channel, text, user="anna")

    def photo(self, data: bytes, name: str, caption: str) -> str:
        return self._server.say(self._channel, caption, user="anna", files=((name, data, "image/png"),))

    def press(self, shown: Shown, choice: str) -> None:
        self._server.press(self._channel, shown.id, choice, user="anna")

    def shown(self) -> list[Shown]:
        return [self._read(message) for message in self._server.by_bot(self._channel)]

    def _read(self, message: dict[str, Any]) -> Shown:
        choices = tuple(one["label"] for row in message["components"] for one in row["components"])
        base = self._server.rest.base
        files = tuple(
            (one["filename"], self._server.world.files[one["url"].removeprefix(base)]) for one in message["attachments"]
        )
        edits = len(self._server.calls("PATCH", f"/messages/{message['id']}$"))
        return Shown(message["id"], message["content"], edits, choices, files)


class OnMatrix:
    network = "matrix"
    how_she_presses = "reacts with"

    def __init__(self, server: Synapse):
        self._bot, self._person = server.person("hermes"), server.person("anna")
        self._room = ""
        self.settings: dict[str, Any] = {}
        self.env = {
            "MATRIX_HOMESERVER": server.url, "MATRIX_ACCESS_TOKEN": self._bot.token,
            "MATRIX_ALLOWED_USERS": self._person.user_id,
        }  # fmt: skip

    def close(self) -> None:
        self._bot.close()
        self._person.close()

    def _say(self, text: str, **content: Any) -> str:
        self._room = self._room or self._person.create_room(self._bot.user_id, direct=True)
        return self._person.say(self._room, text, **content)

    def say(self, text: str) -> str:
        return self._say(text)

    def photo(self, data: bytes, name: str, caption: str) -> str:
        url = self._person.upload(data, "image/png", name)
        info = {"mimetype": "image/png", "size": len(data)}
        return self._say(caption, msgtype="m.image", filename=name, url=url, info=info)

    def press(self, shown: Shown, choice: str) -> None:
        self._person.react(self._room, shown.id, SIGNS[choice])

    def shown(self) -> list[Shown]:
        self._person.look()
        return [self._read(event) for event in self._person.messages(self._room, self._bot.user_id)]

    def _read(self, event: Event) -> Shown:
        content, events = event["content"], self._person.events[self._room]
        related = [one["content"].get("m.relates_to", {}) for one in events if one["sender"] == self._bot.user_id]
        about = [one for one in related if one.get("event_id") == event["event_id"]]
        edits = sum(one.get("rel_type") == "m.replace" for one in about)
        signs = {sign: choice for choice, sign in SIGNS.items()}
        choices = tuple(signs[one["key"]] for one in about if one.get("key") in signs)
        files: tuple[tuple[str, bytes], ...] = ()
        if "url" in content:
            name = content.get("filename", content["body"])
            files = ((name, self._person.download(content["url"])[0]),)
        return Shown(event["event_id"], content["body"], edits, choices, files)
