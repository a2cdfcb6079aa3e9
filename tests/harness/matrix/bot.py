"""One account of the adapter's at a real Synapse, with a core in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hermesd.adapters.contract import AdapterSettings, Outbound, Sent, Target
from hermesd.adapters.matrix.adapter import MatrixAdapter

from .core import Core
from .person import Event, Person
from .synapse import Synapse


class Bot:
    """The adapter, its account and its core; ``core`` survives the adapter's lives as the journal does."""

    def __init__(self, server: Synapse, directory: Path, account: Person):
        self.account = account
        self.core = Core()
        self.server = server
        self.directory = directory
        self.environ: dict[str, str] = {"MATRIX_ACCESS_TOKEN": account.token}
        self.extra: dict[str, Any] = {}
        self._adapter: MatrixAdapter | None = None

    @property
    def user_id(self) -> str:
        return self.account.user_id

    @property
    def adapter(self) -> MatrixAdapter:
        assert self._adapter is not None
        return self._adapter

    def make(self) -> MatrixAdapter:
        extra = {"media_dir": str(self.directory / "media"), "homeserver": self.server.url, **self.extra}
        return MatrixAdapter(AdapterSettings("matrix", extra=extra, environ=self.environ))

    async def start(self) -> None:
        self._adapter = self.make()
        await self._adapter.start(self.core)

    async def stop(self) -> None:
        adapter, self._adapter = self._adapter, None
        if adapter is not None:
            await adapter.stop()

    async def again(self) -> None:
        await self.stop()
        await self.start()

    def target(self, room: str, *, reply_to: str = "", thread: str = "") -> Target:
        return Target("matrix", room, thread, reply_to)

    async def send(self, room: str, text: str, key: str = "k", **how: Any) -> Sent:
        where = {name: how.pop(name) for name in ("reply_to", "thread") if name in how}
        return await self.adapter.send(self.target(room, **where), Outbound(key, text, **how))


async def seen(person: Person, condition: Callable[[], Any], seconds: float = 40.0) -> Any:
    """What a person's client shows; the event loop, which is the adapter's, goes on meanwhile."""
    return await asyncio.to_thread(person.wait, condition, seconds)


async def shown(person: Person, room: str, event_id: str) -> Event:
    """The event, once this person's client shows it."""
    found: Event = await seen(
        person, lambda: next((one for one in person.events.get(room, ()) if one["event_id"] == event_id), None)
    )
    return found


async def direct(bot: Bot, person: Person) -> str:
    """A direct chat that the bot has joined."""
    room = person.create_room(bot.user_id, direct=True)
    await seen(person, lambda: joined(person, room, bot.user_id))
    return room


async def group(bot: Bot, *people: Person, name: str = "") -> str:
    """A room with more people than the bot and one other."""
    first, *others = people
    room = first.create_room(bot.user_id, *(other.user_id for other in others), name=name)
    for other in others:
        other.join(room)
    await seen(first, lambda: joined(first, room, bot.user_id))
    return room


def joined(person: Person, room: str, user: str) -> bool:
    return any(
        event["type"] == "m.room.member" and event["state_key"] == user and event["content"]["membership"] == "join"
        for event in person.events.get(room, ())
    )


async def state(bot: Bot, word: str, seconds: float = 40.0) -> str:
    """The detail of the adapter's state, once it is this one."""
    async with asyncio.timeout(seconds):
        while bot.adapter.state().word != word:
            await asyncio.sleep(0.02)  # it can only be asked
    return bot.adapter.state().detail
