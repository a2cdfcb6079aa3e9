"""Platform ``local``: chats that terminals attach to, by the console or by the control socket.

Who holds the terminal or the control socket is trusted. What a turn says while nobody is attached to its chat is kept
by the core until somebody is.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any

from hermesd.adapters.contract import (
    AdapterSettings,
    Capabilities,
    Front,
    Inbound,
    Outbound,
    Receiver,
    Sent,
    State,
    Target,
)
from hermesd.adapters.errors import Gone, NotAccepted, Rejected, Unattended
from hermesd.adapters.local.console import Console, open_console
from hermesd.adapters.standing import Standing
from hermesd.adapters.text import chat_name_problem, clean

USER = "local"
STOP_SECONDS = 1.0

log = logging.getLogger(__name__)


class LocalChat:
    """One front on one chat (`AttachedChat`). Made by `LocalAdapter.attach`."""

    def __init__(self, adapter: LocalAdapter, name: str, front: Front):
        self.name = name
        self.front = front
        self._adapter = adapter

    async def say(self, text: str, message_id: str = "") -> str:
        return await self._adapter.hand_in(self, text, message_id or uuid.uuid4().hex)

    def detach(self) -> None:
        self._adapter.forget(self)


class LocalAdapter:
    """The one adapter object behind every terminal."""

    def __init__(self, settings: AdapterSettings):
        self.name = settings.name
        self._receiver: Receiver | None = None
        self._chats: list[LocalChat] = []
        self._asked: dict[tuple[str, str], LocalChat] = {}
        self._console: Console | None = None
        self._talking: asyncio.Task[int] | None = None
        self._standing = Standing()

    async def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._standing.become("online")

    async def stop(self) -> None:
        self._receiver = None
        self._standing.become("stopped")
        for chat in list(self._chats):
            self.forget(chat)
            chat.front.closed()
        if self._talking is not None:
            # It returns by itself once closed, unless the core is not answering its last message.
            talking = self._talking
            _, late = await asyncio.wait([talking], timeout=STOP_SECONDS)
            if late:
                talking.cancel()
                await asyncio.wait([talking])

    async def send(self, target: Target, message: Outbound) -> Sent:
        while watching := self._watching(target):
            if any([await self._shown(chat, target, message) for chat in watching]):
                if message.final:
                    self._asked.pop((target.chat_id, target.reply_to), None)
                return Sent(uuid.uuid4().hex)
            # They have all left; somebody else may have come meanwhile.
        verb = f"hermesctl chat {target.chat_id}".rstrip()
        raise Unattended(f"cannot show it: nobody is attached to this chat; {verb} shows it")

    async def _shown(self, chat: LocalChat, target: Target, message: Outbound) -> bool:
        try:
            await chat.front.answer(target.reply_to, message)
        except Gone as error:
            log.info("a terminal left chat %r: %s", chat.name, error)
            self.forget(chat)
            return False
        return True

    def stream(self, target: Target, text: str) -> None:
        for chat in self._watching(target):
            chat.front.stream(target.reply_to, text)

    def notice(self, target: Target, text: str) -> None:
        for chat in self._watching(target):
            chat.front.notice(target.reply_to, text)

    def capabilities(self, target: Target) -> Capabilities:
        return Capabilities()

    def state(self) -> State:
        return self._standing.shown()

    def describe(self) -> dict[str, Any]:
        return {"attached": sorted(chat.name for chat in self._chats), "console": self._console is not None}

    def attach(self, name: str, front: Front) -> LocalChat:
        if name and (problem := chat_name_problem(name)):
            raise Rejected(f"cannot attach to local chat {name!r}: {problem}")
        if self._receiver is None:
            raise Rejected(f"cannot attach to local chat {name!r}: hermesd is not taking messages")
        chat = LocalChat(self, name, front)
        self._chats.append(chat)
        self._receiver.attended(Target(self.name, name))
        return chat

    async def converse(self, name: str = "") -> int:
        self._console = console = open_console()
        chat = self.attach(name, console)
        self._talking = asyncio.create_task(console.run(chat), name="local-console")
        try:
            return await self._talking
        finally:
            chat.detach()
            self._console = self._talking = None

    def interrupt(self) -> bool:
        return self._console is not None and self._console.interrupt()

    async def hand_in(self, chat: LocalChat, text: str, message_id: str) -> str:
        """For `LocalChat.say`."""
        if self._receiver is None or chat not in self._chats:
            raise NotAccepted("this terminal is not attached any more", code="stopped")
        self._standing.alive()
        inbound = Inbound(
            platform=self.name,
            chat_id=chat.name,
            message_id=message_id,
            user_id=USER,
            text=clean(text),
            user_name=USER,
            trusted=True,
            sent_at=self._standing.received_at,
        )
        # Before the journal has it: the answer may be faster than the return of receive.
        self._asked[(chat.name, message_id)] = chat
        try:
            await self._receiver.receive(inbound)
        except BaseException:
            self._asked.pop((chat.name, message_id), None)
            raise
        return message_id

    def forget(self, chat: LocalChat) -> None:
        """For `LocalChat.detach`; twice is once."""
        if chat in self._chats:
            self._chats.remove(chat)
        self._asked = {place: asker for place, asker in self._asked.items() if asker is not chat}

    def _watching(self, target: Target) -> list[LocalChat]:
        """Who asked, else everybody who looks at this chat."""
        asker = self._asked.get((target.chat_id, target.reply_to))
        return [asker] if asker else [chat for chat in self._chats if chat.name == target.chat_id]
