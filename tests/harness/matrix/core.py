"""The core's side of an adapter: a journal in memory, which a test can refuse, hold up and read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from hermesd.adapters.contract import Cursor, Inbound, Press, Pressed, Target
from hermesd.adapters.errors import AdapterError, NotAccepted


class Core:
    """``commit`` holds every message up while it is clear; ``refusal`` refuses all while it is not empty."""

    def __init__(self, kept: Mapping[str, str] | None = None) -> None:
        self.inbox: list[Inbound] = []
        self.kept: dict[str, str] = dict(kept or {})
        self.arriving: list[str] = []  # texts that were handed in, kept or not
        self.presses: list[Press] = []
        self.takes_presses = True
        self.losses: list[AdapterError] = []
        self.refusal = ""
        self.commit = asyncio.Event()
        self.commit.set()
        self._changed = asyncio.Condition()

    async def receive(self, inbound: Inbound) -> bool:
        self.arriving.append(inbound.text)
        await self._tell()
        await self.commit.wait()
        if self.refusal:
            await self._tell()
            raise NotAccepted(self.refusal)
        if any((one.chat_id, one.message_id) == (inbound.chat_id, inbound.message_id) for one in self.inbox):
            return False
        self.inbox.append(inbound)
        if inbound.cursor is not None:
            self.kept[inbound.cursor.name] = inbound.cursor.value
        await self._tell()
        return True

    def cancel(self, inbound_chat: Target) -> None: ...

    async def pressed(self, press: Press) -> Pressed:
        self.presses.append(press)
        await self._tell()
        return Pressed(self.takes_presses, "")

    def lost(self, platform: str, error: AdapterError) -> None:
        self.losses.append(error)
        self._telling = asyncio.ensure_future(self._tell())

    async def cursor(self, platform: str, name: str) -> str:
        return self.kept.get(name, "")

    async def cursors(self, platform: str) -> Mapping[str, str]:
        return dict(self.kept)

    async def keep_cursor(self, platform: str, cursor: Cursor) -> None:
        if self.refusal:
            raise NotAccepted(self.refusal)
        self.kept[cursor.name] = cursor.value
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], Any], seconds: float = 40.0) -> Any:
        """What ``condition`` gives, once that is true."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(condition)
        return condition()

    async def message(self, text: str, seconds: float = 40.0) -> Inbound:
        """The message that says so, once it is there."""
        await self.until(lambda: self.texts.count(text), seconds)
        return next(one for one in self.inbox if one.text == text)

    @property
    def texts(self) -> list[str]:
        return [one.text for one in self.inbox]
