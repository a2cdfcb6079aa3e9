"""The Matrix adapter as the adapter contract tries it: a person at a real Synapse on the other side.

A homeserver chooses the ids of rooms and events itself. The contract's tests choose names; `_Named` stands between them
and the adapter and knows which is which.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hermesd.adapters import registry
from hermesd.adapters.contract import AdapterSettings, Capabilities, Cursor, Inbound, Outbound, Sent, State, Target
from hermesd.adapters.errors import AdapterError, NotAccepted

from .synapse import Synapse


class MatrixWay:
    """``refused`` is what `hand_in` raises when the message was not confirmed."""

    def __init__(self, server: Synapse, tmp_path: Path, refused: type[Exception]):
        self.account = server.person("bot")
        self.person = server.person("anna")
        self.adapter = _Named(server, tmp_path, self.account.token)
        self._refused = refused
        self._rooms: dict[str, str] = {}
        self._looking = asyncio.Lock()  # a person's client is used by one at a time

    def ids(self, chat: str, message_id: str) -> tuple[str, str]:
        return chat, message_id

    async def hand_in(self, text: str, chat: str = "room", message_id: str = "m1") -> None:
        if chat not in self._rooms:
            self._rooms[chat] = room = self.person.create_room(self.account.user_id, direct=True)
            self.adapter.names[room] = chat
        # JSON in UTF-8 carries no lone surrogates.
        text = text.encode("utf-8", "replace").decode().replace("?", "\ufffd") if not _is_unicode(text) else text
        event = self.person.say(self._rooms[chat], text, txn=message_id)
        self.adapter.names[event] = message_id
        if not await self.adapter.confirmed(event):
            raise self._refused

    async def shown(self, chat: str, message_id: str) -> str:
        room = self._rooms[chat]
        event = next(one for one, name in self.adapter.names.items() if name == message_id and self._is_in(one, room))
        while not (answers := self.person.answers(room, event, self.account.user_id)):
            async with self._looking:
                await asyncio.to_thread(self.person.look, 1.0)
        answer = answers[0]
        return str(answer["content"]["body"])

    def _is_in(self, event: str, room: str) -> bool:
        return self.adapter.rooms.get(event) == room

    async def close(self) -> None:
        self.account.close()
        self.person.close()


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Named:
    """The adapter, with the tests' names in place of the server's ids; also the receiver between it and their core."""

    def __init__(self, server: Synapse, tmp_path: Path, token: str):
        extra = {"homeserver": server.url, "media_dir": str(tmp_path / "media")}
        self._adapter = registry.make("matrix", AdapterSettings("matrix", token=token, extra=extra))
        self.name = self._adapter.name
        self.names: dict[str, str] = {}
        self.rooms: dict[str, str] = {}  # event -> room
        self._core: Any = None
        self._kept: dict[str, str] = {}
        self._taken: set[str] = set()
        self._confirmed: set[str] = set()
        self._refused: set[str] = set()
        self._changed = asyncio.Condition()

    async def confirmed(self, event: str) -> bool:
        """Whether the sync after this event has begun; False when the core refused it or nobody reads."""
        if self.state().word == "stopped":
            return False
        self._refused.discard(event)
        async with self._changed:
            await self._changed.wait_for(lambda: event in self._confirmed | self._refused)
        return event in self._confirmed

    async def start(self, core: Any) -> None:
        self._core = core
        await self._adapter.start(self)  # type: ignore[arg-type]

    async def stop(self) -> None:
        await self._adapter.stop()

    async def send(self, target: Target, message: Outbound) -> Sent:
        ids = {name: one for one, name in self.names.items()}
        room = ids.get(target.chat_id, target.chat_id)
        asked = next(
            (one for one, name in self.names.items() if name == target.reply_to and self.rooms.get(one) == room), ""
        )
        return await self._adapter.send(replace(target, chat_id=room, reply_to=asked), message)

    def capabilities(self, target: Target) -> Capabilities:
        return self._adapter.capabilities(target)

    def state(self) -> State:
        return self._adapter.state()

    def describe(self) -> dict[str, Any]:
        return self._adapter.describe()

    # The receiver's side.

    async def receive(self, inbound: Inbound) -> bool:
        event = inbound.message_id
        self.rooms[event] = inbound.chat_id
        named = replace(inbound, chat_id=self.names[inbound.chat_id], message_id=self.names[event])
        try:
            new = bool(await self._core.receive(named))
        except NotAccepted:
            self._refused.add(event)
            await self._tell()
            raise
        self._taken.add(event)
        return new

    async def cursors(self, platform: str) -> Mapping[str, str]:
        return dict(self._kept)

    async def keep_cursor(self, platform: str, cursor: Cursor) -> None:
        self._kept[cursor.name] = cursor.value
        if cursor.name == "sync":
            self._confirmed |= self._taken
            await self._tell()

    def lost(self, platform: str, error: AdapterError) -> None:
        raise AssertionError(error)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
