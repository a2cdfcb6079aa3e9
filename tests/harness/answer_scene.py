"""One chat of a platform in which a turn runs: what it shows of the answer, and when that is whole."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import pytest

from hermesd.adapters.contract import AdapterSettings
from hermesd.adapters.fake import FakeAdapter
from hermesd.adapters.fake_record import Shown
from hermesd.ipc.messages import Delta, StartTurn, ToolUse
from hermesd.supervisor.delivery.settings import DeliverySettings, Places, Streaming

from .gateway import Gateway, Played, until

CURSOR = " \u2589"
LONG = "It rains in Paris, and it will go on. "  # more than the threshold


class AnswerScene:
    """One chat of a platform with these powers, and its worker."""

    def __init__(self, gateway: Gateway):
        self.gateway = gateway
        self.worker: Played
        self.start: StartTurn

    async def begin(self, text: str = "hello", *, streaming: Streaming | None = None, **extra: Any) -> Self:
        extra = {"can": ["edit", "delete", "buttons"], "max_length": 2000, "max_file_bytes": 1000, **extra}
        self.gateway.chat = FakeAdapter(AdapterSettings("fake", extra=extra))
        path = self.gateway.path
        self.gateway.delivery = DeliverySettings(
            streaming or Streaming(interval=0.02), places=Places(path, path / "media", path / "work")
        )
        await self.gateway.start()
        await self.gateway.say(text, chat="c1", message_id="m1")
        self.worker = await self.gateway.pool.ready()
        self.start = await self.worker.accept()
        return self

    def delta(self, text: str) -> None:
        self.worker.say(Delta(self.start.turn, text))

    def tool(self) -> None:
        self.worker.say(ToolUse(self.start.turn, "weather", "Paris", "started"))

    def finish(self, text: str, outcome: str = "done", error: str = "") -> None:
        self.worker.finish(self.start, text, outcome, error)

    def hold_up(self, monkeypatch: pytest.MonkeyPatch, look: str) -> tuple[list[Any], asyncio.Event]:
        """What the streams look up by this name waits for the event; who has asked by now is in the list."""
        streams, may_look = self.gateway.deliverer.streams, asyncio.Event()
        asked: list[Any] = []
        really = getattr(streams, look)

        async def slowly(*what: Any) -> Any:
            asked.append(what)
            await may_look.wait()
            return await really(*what)

        monkeypatch.setattr(streams, look, slowly)
        return asked, may_look

    @property
    def chat(self) -> FakeAdapter:
        return self.gateway.chat

    @property
    def texts(self) -> list[str]:
        return [shown.text for shown in self.chat.transcript()]

    async def reads(self, *texts: str) -> list[Shown]:
        """Wait until the chat reads so, whole."""

        def so() -> bool:
            return self.texts == list(texts)

        try:
            await until(so)
        except AssertionError:
            pytest.fail(f"the chat reads {self.texts}")
        return self.chat.transcript()

    async def settled(self) -> None:
        """Everything is sent, and no progress is left in the journal."""
        assert await self.gateway.deliverer.wait_idle(30.0)
        await self.gateway.tasks.settle(5.0)
        assert await self.gateway.rows("SELECT * FROM progress") == []

    async def states(self) -> list[tuple[Any, ...]]:
        return await self.gateway.rows("SELECT key, state, platform_message_id FROM outbox ORDER BY id")
