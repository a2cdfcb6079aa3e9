"""Servers that can fall ill, on one event loop with the adapters that use them; `harness.skipping` lets time fly."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
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
    """One network. ``befalls`` is asked for each call; ``seen`` holds the changing calls of messages with their time.

    ``texts()`` is what the bot's messages in the place of ``target`` read now.
    """

    settings: AdapterSettings
    target: Target
    texts: Callable[[], Awaitable[list[str]]]
    befalls: Callable[[bool], Trouble | None]
    seen: list[tuple[float, str]]
    out: bool = False  # nothing is answered but 503

    def trouble(self, now: float, *, message: bool, edit: bool) -> Trouble | None:
        """What befalls a call that sends or edits a message, or another one."""
        if self.out:
            return UNWELL
        found = self.befalls(edit) if message else None
        if message:
            self.seen.append((now, found.kind if found is not None else ""))
        return found


def _made(settings: AdapterSettings, target: Target, texts: Callable[[], Awaitable[list[str]]]) -> Ill:
    return Ill(settings, target, texts, lambda edit: None, [])


@asynccontextmanager
async def telegram(loop: SkippingLoop) -> AsyncIterator[Ill]:
    server = Server(TOKEN)
    await server.start()
    chat = server.world.private(server.world.add_user("Ann"))
    extra = {"base_url": f"http://127.0.0.1:{server.port}/bot"}

    async def texts() -> list[str]:
        return [one.text for one in chat.messages.values() if one.sender is server.world.bot and not one.deleted]

    ill = _made(AdapterSettings("telegram", token=TOKEN, extra=extra), Target("telegram", str(chat.id)), texts)

    def fault(method: str) -> Fault | None:
        found = ill.trouble(
            loop.time(), message=method in ("sendmessage", "editmessagetext"), edit=method == "editmessagetext"
        )
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
        settings = AdapterSettings("discord", token=server.world.token, extra=server.extra)

        async def texts() -> list[str]:
            return [one["content"] for one in server.by_bot(channel)]

        ill = _made(settings, Target("discord", channel), texts)

        def fault(call: Call) -> DiscordFault | None:
            edit = call.method == "PATCH"
            message = "/messages" in call.path and (edit or call.method == "POST")
            found = ill.trouble(loop.time(), message=message, edit=edit)
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

    ill = _made(AdapterSettings("matrix", token=bot.token, extra=extra), Target("matrix", room), texts)

    def trouble(request: web.Request) -> Trouble | None:
        return ill.trouble(
            loop.time(),
            message="/send/m.room.message/" in request.path,
            edit=proxy.body_of(request).find(b"m.replace") > 0,
        )

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
