"""A bot of ours on a Discord of ours, and a core that keeps what it is given over the adapter's lives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

from hermesd.adapters.contract import AdapterSettings, Cursor, Inbound, Outbound, Press, Pressed, Target
from hermesd.adapters.discord.adapter import DiscordAdapter
from hermesd.adapters.errors import AdapterError, NotAccepted

from .server import DiscordServer

T = TypeVar("T")


class Core:
    """The journal of an instance: what was received, and the cursors, kept together. ``commit`` holds it up while it is
    clear."""

    def __init__(self) -> None:
        self.journal: dict[tuple[str, str], Inbound] = {}
        self.kept: dict[str, str] = {}
        self.refusal = ""
        self.lost_by: list[AdapterError] = []
        self.presses: list[Press] = []
        self.allowed: set[str] = set()
        self.commit = asyncio.Event()
        self.commit.set()

    async def receive(self, inbound: Inbound) -> bool:
        await self.commit.wait()
        if self.refusal:
            raise NotAccepted(self.refusal)
        new = (inbound.chat_id, inbound.message_id) not in self.journal
        self.journal.setdefault((inbound.chat_id, inbound.message_id), inbound)
        if inbound.cursor is not None:
            self.kept[inbound.cursor.name] = inbound.cursor.value
        return new

    def cancel(self, inbound_chat: Target) -> None: ...

    async def pressed(self, press: Press) -> Pressed:
        if press.user_id not in self.allowed:
            return Pressed(False, "this is not yours to answer")
        self.presses.append(press)
        return Pressed(True, f"{press.choice}, by {press.user_name}")

    def lost(self, platform: str, error: AdapterError) -> None:
        self.lost_by.append(error)

    async def cursor(self, platform: str, name: str) -> str:
        return self.kept.get(name, "")

    async def cursors(self, platform: str) -> dict[str, str]:
        return dict(self.kept)

    async def keep_cursor(self, platform: str, cursor: Cursor) -> None:
        self.kept[cursor.name] = cursor.value

    @property
    def texts(self) -> list[str]:
        return [inbound.text for inbound in self.journal.values()]

    def inbound(self, message_id: str) -> Inbound:
        return next(one for one in self.journal.values() if one.message_id == message_id)


class Bot:
    """Lives of one bot with one core."""

    def __init__(self, server: DiscordServer, **extra: Any):
        self.server = server
        self.core = Core()
        self.extra = {**server.extra, **extra}
        self.adapter: DiscordAdapter = self.make()

    def make(self) -> DiscordAdapter:
        return DiscordAdapter(AdapterSettings("discord", token=self.server.world.token, extra=self.extra))

    async def start(self) -> DiscordAdapter:
        self.adapter = self.make()
        try:
            await self.adapter.start(self.core)
        except AdapterError:
            await self.adapter.stop()
            raise
        return self.adapter

    async def stop(self) -> None:
        await self.adapter.stop()

    async def heard(self, count: int) -> list[str]:
        """The texts, once there are so many."""
        await eventually(lambda: len(self.core.journal) >= count, what=f"{count} messages; heard {self.core.texts}")
        return self.core.texts

    async def settled(self) -> None:
        """Everything is read on, and nothing waits."""
        told = self.adapter.describe
        await eventually(lambda: told()["waiting"] == 0 and not told()["reading_on"], what="everything is read on")

    def target(self, message_id: str) -> Target:
        """Where the answer to a message goes."""
        inbound = self.core.inbound(message_id)
        return Target("discord", inbound.chat_id, inbound.thread_id, inbound.message_id)


async def eventually(condition: Callable[[], T], seconds: float = 30.0, *, what: str = "") -> T:
    """What ``condition`` gives once it is true; for a state that can only be asked for."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"not within {seconds} s: {what or condition}"
        await asyncio.sleep(0.005)
    return found


def outbound(text: str, key: str = "k1", **more: Any) -> Outbound:
    return Outbound(key, text, **more)
