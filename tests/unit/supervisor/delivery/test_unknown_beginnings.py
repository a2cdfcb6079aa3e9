"""The beginning of an answer may be in its chat under an id that nobody knows: then the answer carries a mark."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness.delivery_life import DeliveryLife

from hermesd.adapters.contract import Capabilities, Outbound, Sent, Target
from hermesd.adapters.errors import Retry, Uncertain
from hermesd.supervisor.delivery.deliverer import PERHAPS_AGAIN
from hermesd.supervisor.delivery.stale import NOTHING

TARGET = Target("fake", "ann", reply_to="m1")
BEGINNING = "The answer, of which there is more"
WHOLE = f"{BEGINNING} than this."


class Platform:
    """Takes messages under numbers and lets them be edited. ``trouble`` meets the next send."""

    def __init__(self) -> None:
        self.facts = Capabilities()
        self.texts: list[str] = []
        self.keys: dict[str, str] = {}
        self.trouble: Exception | None = None
        self.arrives = False  # the message does, although there is trouble
        self.silent = False  # it never says what it has done
        self.called = asyncio.Event()

    def capabilities(self, target: Target) -> Capabilities:
        return self.facts

    async def send(self, target: Target, message: Outbound) -> Sent:
        trouble, self.trouble = self.trouble, None
        if self.facts.exact_resends and message.key in self.keys:
            return Sent(self.keys[message.key])
        if trouble is None or self.arrives:
            self.keys[message.key] = str(len(self.texts))
            self.texts.append(message.text)
        self.called.set()
        if self.silent:
            await asyncio.Event().wait()
        if trouble is not None:
            raise trouble
        return Sent(str(len(self.texts) - 1))

    async def edit(self, target: Target, message_id: str, message: Outbound) -> Sent:
        self.texts[int(message_id)] = message.text
        return Sent(message_id)


class Life(DeliveryLife[Platform]):
    async def show_beginning(self) -> None:
        self.platform.called.clear()
        self.deliverer.stream(TARGET, BEGINNING, "t1")
        async with asyncio.timeout(30.0):
            await self.platform.called.wait()

    async def answer(self) -> list[str]:
        await self.deliverer.say(TARGET, Outbound("t1:answer", WHOLE), turn="t1")
        assert await self.deliverer.wait_idle(30.0)
        return self.platform.texts


@pytest.fixture
def platform() -> Platform:
    return Platform()


@pytest.fixture
async def life(tmp_path: Path, platform: Platform) -> AsyncIterator[Life]:
    made = await Life(tmp_path, platform).begin()
    yield made
    await made.end()


async def test_one_whose_call_was_cut(life: Life, platform: Platform) -> None:
    platform.trouble, platform.arrives = Uncertain("cut"), True
    await life.show_beginning()
    beginning, whole = await life.answer()
    assert beginning.startswith(BEGINNING)
    assert whole == f"{PERHAPS_AGAIN}\n\n{WHOLE}"


async def test_one_that_was_being_sent_when_hermesd_died(tmp_path: Path, life: Life, platform: Platform) -> None:
    platform.silent = True
    await life.show_beginning()
    await life.end()
    platform.silent = False
    second = await Life(tmp_path, platform).begin()
    second.deliverer.stream(TARGET, BEGINNING, "t1")  # the turn is run again: nothing is begun a second time
    beginning, whole = await second.answer()
    assert beginning.startswith(BEGINNING)
    assert whole == f"{PERHAPS_AGAIN}\n\n{WHOLE}"
    await second.end()


async def test_the_mark_outlives_a_second_death(tmp_path: Path, life: Life, platform: Platform) -> None:
    platform.silent = True
    await life.show_beginning()
    await life.end()
    second = await Life(tmp_path, platform).begin()
    platform.called.clear()
    await second.deliverer.say(TARGET, Outbound("t1:answer", WHOLE), turn="t1")
    async with asyncio.timeout(30.0):
        await platform.called.wait()
    await second.end()
    platform.silent = False
    third = await Life(tmp_path, platform).begin()
    assert await third.deliverer.wait_idle(30.0)
    assert [text.startswith(PERHAPS_AGAIN) for text in platform.texts] == [False, True, True]
    await third.end()


@pytest.mark.parametrize("died", [False, True])
async def test_one_that_certainly_is_not_there_needs_no_mark(
    tmp_path: Path, life: Life, platform: Platform, died: bool
) -> None:
    platform.trouble = Retry("too many requests", after=0.0)
    await life.show_beginning()
    if died:
        await asyncio.sleep(0)
        while await life.journal.read(lambda connection: connection.execute("SELECT 1 FROM progress").fetchall()):
            await asyncio.sleep(0)
        await life.end()
        life = await Life(tmp_path, platform).begin()
    assert await life.answer() == [WHOLE]
    if died:
        await life.end()


@pytest.mark.parametrize("arrives", [False, True])
@pytest.mark.parametrize("trouble", [Uncertain("cut", after=0.01), Retry("cut", after=0.01)])
async def test_a_platform_that_knows_a_message_again_has_it_once(
    life: Life, platform: Platform, trouble: Exception, arrives: bool
) -> None:
    platform.facts = Capabilities(exact_resends=True)
    platform.trouble, platform.arrives = trouble, arrives
    await life.show_beginning()
    assert await life.answer() == [WHOLE]


async def test_one_of_a_try_whose_worker_died_is_ended_by_the_next_try(life: Life, platform: Platform) -> None:
    platform.facts = Capabilities(exact_resends=True)
    platform.trouble, platform.arrives = Retry("cut", after=0.01), True
    await life.show_beginning()
    while life.deliverer.streams._streams["t1"].call is not None:
        await asyncio.sleep(0)
    life.deliverer.streams.again("t1")  # its answer comes before a word of it is shown
    assert await life.answer() == [NOTHING, WHOLE]
