"""Typing and reactions in a chat that its platform has closed for a while."""

from __future__ import annotations

import asyncio

from harness import skipping

from hermesd.adapters.contract import Target
from hermesd.adapters.errors import Retry
from hermesd.supervisor.gateway.presence import Presence
from hermesd.supervisor.gateway.turn_life import State
from hermesd.supervisor.tasks import Tasks

TARGET = Target("fake", "ann", reply_to="m1")


class Platform:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failures: list[Retry] = []

    async def typing(self, target: Target) -> None:
        self.calls.append("typing")
        self._fail()

    async def react(self, target: Target, sign: str) -> None:
        self.calls.append(sign)
        self._fail()

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)


class Window:
    """What the deliverer says and is told of the chat."""

    def __init__(self) -> None:
        self.until = 0.0
        self.told: list[float] = []

    def closed_for(self, target: Target) -> float:
        return max(0.0, self.until - asyncio.get_running_loop().time())

    def heed(self, target: Target, error: Retry) -> None:
        if error.flood:
            self.told.append(error.after)
            self.until = asyncio.get_running_loop().time() + error.after


def test_what_the_platform_says_to_a_sign_of_life_closes_the_chat_for_all() -> None:
    skipping.run(lambda loop: _closes_the_chat_for_all())


async def _closes_the_chat_for_all() -> None:
    platform, tasks, window = Platform(), Tasks(lambda name, error: None), Window()
    presence = Presence({"fake": platform}, tasks, lambda: [TARGET], window.closed_for, window.heed)  # type: ignore[dict-item]
    platform.failures = [Retry("not connected", after=1.0), Retry("too many requests", after=30.0, flood=True)]
    for _ in range(4):
        presence.type_in(TARGET)
        await tasks.settle(5.0)
    assert platform.calls == ["typing"] * 2, "only the second of them has closed it"
    assert window.told == [30.0]
    window.until = 0.0
    platform.failures = [Retry("too many requests", after=600.0, flood=True)]
    presence.ended(TARGET, State.DONE)
    await asyncio.sleep(300.0)
    presence.type_in(TARGET)
    assert platform.calls[2:] == ["✅"]
    await asyncio.sleep(400.0)
    assert platform.calls[2:] == ["✅"] * 2
    assert window.told == [30.0, 600.0]
    await tasks.close()


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
