"""Servers that can fall ill, on one event loop with the adapters that use them; `harness.skipping` lets time fly."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from harness.discord.rest import Fault as DiscordFault
from harness.discord.server import DiscordServer
from harness.discord.world import Call
from harness.matrix.proxy import Proxy
from harness.matrix.synapse import Synapse
from harness.skipping import SkippingLoop
from harness.telegram import errors
from harness.telegram.emulator import TOKEN
from harness.telegram.faults import Fault
from harness.telegram.server import Server
from hermesd.adapters.contract import AdapterSettings, Cursor, Inbound, Press, Pressed, Target

from . import weather
from .weather import Trouble

UNWELL = Trouble(weather.UNWELL, 0.0, 503)
ANYTHING = re.compile("")

TELEGRAM = {
    "sendmessage": "send", "editmessagetext": "edit", "deletemessage": "delete",
    "setmessagereaction": "react", "sendchataction": "type",
}  # fmt: skip
"""The word for each method that does something in a chat."""

DISCORD = {
    ("PUT", "/reactions/"): "react", ("DELETE", "/reactions/"): "react", ("POST", "/typing"): "type",
    ("POST", "/messages"): "send", ("PATCH", "/messages/"): "edit", ("DELETE", "/messages/"): "delete",
}  # fmt: skip
MATRIX = {
    "/send/m.room.message/": "send", "/send/m.reaction/": "react", "/redact/": "delete",
    "/typing/": "type", "/receipt/": "read",
}  # fmt: skip
"""The first that fits."""


class Ear:
    """The core's side of an adapter that nobody writes to. ``on_lost``: what `Platforms.lost` is for."""

    def __init__(self) -> None:
        self.on_lost: Callable[[str, Any], None] = lambda platform, error: None
        self._kept: dict[str, str] = {}

    async def receive(self, inbound: Inbound) -> bool:
        return True

    def cancel(self, inbound_chat: Target) -> None: ...

    async def pressed(self, press: Press) -> Pressed:
        return Pressed(False, "")

    def lost(self, platform: str, error: Any) -> None:
        self.on_lost(platform, error)

    async def cursor(self, platform: str, name: str) -> str:
        return self._kept.get(name, "")

    async def cursors(self, platform: str) -> Mapping[str, str]:
        return dict(self._kept)

    async def keep_cursor(self, platform: str, cursor: Cursor) -> None:
        self._kept[cursor.name] = cursor.value

    def attended(self, chat: Target) -> None: ...


@dataclass(slots=True)
class Ill:
    """One network. ``befalls`` is asked for each call that does something in the chat of ``target``, by its word: send,
    edit, delete, react, type, read. ``seen`` holds all of them: when, the word, and the kind of trouble.

    ``texts()`` is what the bot's messages in the place of ``target`` read now; ``asked`` names somebody else's there.
    """

    settings: AdapterSettings
    target: Target
    asked: Target
    texts: Callable[[], Awaitable[list[str]]]
    befalls: Callable[[str], Trouble | None] = lambda word: None
    seen: list[tuple[float, str, str]] = field(default_factory=list)
    out: bool = False  # nothing is answered but 503

    def trouble(self, now: float, word: str) -> Trouble | None:
        """What befalls a call, "" for one that does nothing in the chat."""
        if self.out:
            return UNWELL
        if not word:
            return None
        found = self.befalls(word)
        self.seen.append((now, word, found.kind if found is not None else ""))
        return found


@asynccontextmanager
async def telegram(loop: SkippingLoop) -> AsyncIterator[Ill]:
    server = Server(TOKEN)
    await server.start()
    ann = server.world.add_user("Ann")
    chat = server.world.private(ann)
    target = Target("telegram", str(chat.id))
    asked = replace(target, reply_to=str(server.world.post(chat, ann, text="?").id))
    extra = {"base_url": f"http://127.0.0.1:{server.port}/bot", "reactions": True}

    async def texts() -> list[str]:
        return [one.text for one in chat.messages.values() if one.sender is server.world.bot and not one.deleted]

    ill = Ill(AdapterSettings("telegram", token=TOKEN, extra=extra), target, asked, texts)

    def fault(method: str) -> Fault | None:
        found = ill.trouble(loop.time(), TELEGRAM.get(method, ""))
        if found is None:
            return None
        if found.kind == weather.LIMITED:
            return Fault(method, error=errors.retry_after(int(found.seconds)))
        return Fault(method, status=found.status)

    server.faults.weather = fault
    try:
        yield ill
    finally:
        ill.out = False
        await server.stop()


@asynccontextmanager
async def discord(loop: SkippingLoop) -> AsyncIterator[Ill]:
    server = DiscordServer()
    async with server.here():
        channel = server.direct("anna")
        target = Target("discord", channel)
        written = server.world.message(channel, server.world.user("anna"), "?")
        settings = AdapterSettings("discord", token=server.world.token, extra=server.extra)

        async def texts() -> list[str]:
            return [one["content"] for one in server.by_bot(channel)]

        ill = Ill(settings, target, replace(target, reply_to=str(written["id"])), texts)

        def fault(call: Call) -> DiscordFault | None:
            words = (word for (method, path), word in DISCORD.items() if method == call.method and path in call.path)
            found = ill.trouble(loop.time(), next(words, ""))
            if found is None:
                return None
            if found.kind == weather.LIMITED:
                return server.limited(ANYTHING, found.seconds)
            return DiscordFault("", ANYTHING, 1, status=found.status)

        server.rest.weather = fault
        server.gateway.is_refused = lambda: ill.out
        yield ill
        ill.out = False


@asynccontextmanager
async def matrix(loop: SkippingLoop, synapse: Synapse, media: Path) -> AsyncIterator[Ill]:
    bot, anna = synapse.person("bot"), synapse.person("anna")
    room = anna.create_room(bot.user_id, direct=True)
    bot.join(room)
    proxy = Proxy(synapse.url)
    await proxy.start()
    extra = {"homeserver": proxy.url, "media_dir": str(media)}

    looking = asyncio.Event()

    async def texts() -> list[str]:
        looking.set()
        await asyncio.to_thread(anna.look)
        looking.clear()
        return [one["content"]["body"] for one in anna.messages(room, bot.user_id)]

    target = Target("matrix", room)
    asked = replace(target, reply_to=anna.say(room, "?"))
    ill = Ill(AdapterSettings("matrix", token=bot.token, extra=extra), target, asked, texts)

    def trouble(request: web.Request) -> Trouble | None:
        word = next((word for path, word in MATRIX.items() if path in request.path and request.method != "GET"), "")
        edit = word == "send" and proxy.body_of(request).find(b"m.replace") > 0
        return ill.trouble(loop.time(), "edit" if edit else word)

    proxy.trouble = trouble
    loop.holds = lambda: proxy.works or looking.is_set()
    try:
        yield ill
    finally:
        ill.out = False
        loop.holds = lambda: False
        await proxy.stop()
        bot.close()
        anna.close()
