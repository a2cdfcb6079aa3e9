"""Typing and reactions in a chat that its platform has closed for a while."""

from __future__ import annotations

import asyncio

from hermesd.adapters.contract import Target
from hermesd.supervisor.gateway.presence import Presence
from hermesd.supervisor.gateway.turn_life import State
from hermesd.supervisor.tasks import Tasks

TARGET = Target("fake", "ann", reply_to="m1")


class Platform:
    def __init__(self) -> None:
        self.calls: list[str] = []

    async def typing(self, target: Target) -> None:
        self.calls.append("typing")

    async def react(self, target: Target, sign: str) -> None:
        self.calls.append(sign)


async def test_nothing_is_shown_before_the_time_is_over_and_signs_come_then() -> None:
    platform, tasks = Platform(), Tasks(lambda name, error: None)
    closed = [0.03]
    presence = Presence({"fake": platform}, tasks, lambda: [TARGET], lambda target: closed[0])  # type: ignore[dict-item]
    presence.began(TARGET)
    presence.type_in(TARGET)
    for _ in range(10):
        await asyncio.sleep(0)
    assert platform.calls == []
    closed[0] = 0.0
    presence.ended(TARGET, State.DONE)
    async with asyncio.timeout(5.0):
        while len(platform.calls) < 2:
            await asyncio.sleep(0.001)
    assert platform.calls == ["👀", "✅"]
    presence.type_in(TARGET)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert platform.calls[2:] == ["typing"]
    await tasks.close()
