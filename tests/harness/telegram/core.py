"""The core's side of an adapter, for tests of the adapter alone: it keeps what it is given, or refuses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from hermesd.adapters.contract import Cursor, Inbound, Press, Pressed, Target
from hermesd.adapters.errors import AdapterError, NotAccepted


class Core:
    """A `hermesd.adapters.contract.Receiver`. ``refusal``: why it keeps nothing now."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Inbound] = {}
        self.times: dict[tuple[str, str], int] = {}
        self.presses: list[Press] = []
        self.places: dict[str, str] = {}  # cursors
        self.verdict = Pressed(True, "noted")
        self.losses: list[AdapterError] = []
        self.refusal = ""
        self.refuse_only = ""  # text that alone is refused
        self._changed = asyncio.Condition()

    @property
    def inbounds(self) -> list[Inbound]:
        return list(self.kept.values())

    async def receive(self, inbound: Inbound) -> bool:
        place = (inbound.chat_id, inbound.message_id)
        self.times[place] = self.times.get(place, 0) + 1
        if self.refusal and self.refuse_only in inbound.text:
            await self._notify()
            raise NotAccepted(self.refusal, code="journal")
        new = place not in self.kept
        self.kept.setdefault(place, inbound)
        await self._notify()
        return new

    def cancel(self, inbound_chat: Target) -> None:
        raise AssertionError("Telegram's people do not hang up")

    async def pressed(self, press: Press) -> Pressed:
        self.presses.append(press)
        await self._notify()
        return self.verdict

    def lost(self, platform: str, error: AdapterError) -> None:
        assert platform == "telegram"
        self.losses.append(error)
        asyncio.get_running_loop().create_task(self._notify())

    async def cursor(self, platform: str, name: str) -> str:
        return self.places.get(name, "")

    async def cursors(self, platform: str) -> Mapping[str, str]:
        return dict(self.places)

    async def keep_cursor(self, platform: str, cursor: Cursor) -> None:
        assert cursor.name.startswith("topic:"), "how far updates are read, Telegram knows by itself"
        self.places[cursor.name] = cursor.value

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def until(self, condition: Callable[[], Any], seconds: float = 30.0) -> Any:
        async with asyncio.timeout(seconds), self._changed:
            return await self._changed.wait_for(condition)

    async def message(self, text: str) -> Inbound:
        """The message that says this, once it is here."""
        found: Inbound = await self.until(lambda: next((one for one in self.inbounds if one.text == text), None))
        return found
