"""Messages on their way from the gate to their lane: bursts, albums, files; and typing and signs around a turn."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from harness.gateway import Chat, Gateway, until

from hermesd.adapters.contract import Attachment, Bursts, Capabilities, Inbound, State, Target
from hermesd.adapters.errors import AdapterError, Rejected, Retry
from hermesd.ipc.messages import Ask
from hermesd.supervisor.gateway import arrivals
from hermesd.supervisor.gateway.presence import TYPING_SECONDS


class Platform(Chat):
    """A chat whose clients cut texts and send albums, and that people see us write in."""

    name = "fake"

    def __init__(self, bursts: Bursts | None) -> None:
        super().__init__()
        self.bursts = bursts
        self.word = "online"
        self.fetches: list[str] = []
        self.failures: dict[str, list[AdapterError]] = {}
        self.typed: list[str] = []
        self.signs: list[tuple[str, str]] = []
        self.slow = asyncio.Event()
        self.slow.set()

    def capabilities(self, target: Target) -> Capabilities:
        return Capabilities(bursts=self.bursts)

    def state(self) -> State:
        return State(self.word)

    async def fetch(self, file: Attachment, directory: Path, limit: int) -> Attachment:
        self.fetches.append(file.remote)
        await self.slow.wait()
        if errors := self.failures.get(file.remote):
            raise errors.pop(0)
        return Attachment(str(directory / file.name), file.name, file.mime, file.kind)

    async def typing(self, target: Target) -> None:
        self.typed.append(target.chat_id)

    async def react(self, target: Target, sign: str) -> None:
        self.signs.append((target.reply_to, sign))


QUICK = Bursts(text=0.01, cut=60.0, cut_from=10, album=0.02)

PATIENT = Bursts(text=60.0, cut=60.0, cut_from=10, album=60.0)
"""Waits until something comes that is no more of it."""


@pytest.fixture
async def platform(gateway: Gateway) -> Platform:
    gateway.chat = Platform(QUICK)
    return gateway.chat


async def hand_in(gateway: Gateway, number: int, text: str, **more: Any) -> None:
    gateway.chat._chats.add("c1")
    assert await gateway.reception.receive(Inbound("fake", "c1", f"m{number}", "u1", text, **more))


async def test_lines_that_come_together_are_one_turn(gateway: Gateway, platform: Platform) -> None:
    platform.bursts = PATIENT
    await gateway.start()
    for number, text in enumerate(("one", "two", "three")):
        await hand_in(gateway, number, text)
    await hand_in(gateway, 3, "about something else", reply_to_id="m0")
    start = await (await gateway.pool.ready()).answer("re")
    assert start.text == "one\ntwo\nthree"
    await until(lambda: gateway.texts)
    assert (await gateway.inbox())[:3] == ["answered", "answered", "answered"]
    assert await gateway.turns() == ["done"]


async def test_after_a_cut_text_the_rest_is_waited_for(gateway: Gateway, platform: Platform) -> None:
    await gateway.start()
    await hand_in(gateway, 1, "x" * 10)
    await asyncio.sleep(0.05)
    assert not gateway.pool.all
    await hand_in(gateway, 2, "rest")
    assert (await (await gateway.pool.ready()).turn()).text == "x" * 10 + "\nrest"


async def test_another_person_ends_the_wait(gateway: Gateway, platform: Platform) -> None:
    gateway.policy = type(gateway.policy)(allow_all=frozenset({"fake"}))
    await gateway.start()
    await hand_in(gateway, 1, "x" * 10)
    assert await gateway.reception.receive(Inbound("fake", "c1", "m2", "u2", "I too"))
    worker = await gateway.pool.ready()
    assert (await worker.answer("re")).text == "x" * 10
    assert (await worker.answer("re")).text == "I too"


async def test_an_album_is_one_message_with_all_its_files(gateway: Gateway, platform: Platform) -> None:
    platform.bursts = PATIENT
    await gateway.start()
    for number in range(3):
        file = Attachment("", f"{number}.png", "image/png", "image", f"r{number}")
        await hand_in(gateway, number, "us" if not number else "", album="a", attachments=(file,))
    await hand_in(gateway, 3, "no part of it")
    start = await (await gateway.pool.ready()).turn()
    assert start.text == "us"
    assert [file.name for file in start.attachments] == ["0.png", "1.png", "2.png"]


async def test_a_stop_takes_back_what_is_not_there_yet(gateway: Gateway, platform: Platform) -> None:
    await gateway.start()
    await hand_in(gateway, 1, "x" * 10)
    await hand_in(gateway, 2, "/stop")
    await until(lambda: gateway.texts)
    assert await gateway.inbox() == ["dropped", "answered"]
    assert not gateway.pool.all


async def test_a_stop_takes_back_a_message_whose_file_is_being_fetched(gateway: Gateway, platform: Platform) -> None:
    platform.slow.clear()
    await gateway.start()
    await hand_in(gateway, 1, "look", attachments=(Attachment("", "a.png", "image/png", "image", "r1"),))
    await until(lambda: platform.fetches)
    await hand_in(gateway, 2, "/stop")
    await until(lambda: gateway.texts)
    await hand_in(gateway, 3, "other")
    assert (await (await gateway.pool.ready()).turn()).text == "other"
    assert (await gateway.inbox())[:2] == ["dropped", "answered"]


async def test_a_message_does_not_overtake_one_whose_file_takes_its_time(gateway: Gateway, platform: Platform) -> None:
    platform.bursts = None
    platform.slow.clear()
    await gateway.start()
    await hand_in(gateway, 1, "with a file", attachments=(Attachment("", "f.txt", remote="r"),))
    await hand_in(gateway, 2, "without")
    await until(lambda: platform.fetches)
    await asyncio.sleep(0)
    assert not gateway.pool.all
    platform.slow.set()
    worker = await gateway.pool.ready()
    assert (await worker.answer("re")).text == "with a file"
    assert (await worker.answer("re")).text == "without"


async def test_a_file_that_cannot_be_had_is_named_and_the_message_goes_on(
    gateway: Gateway, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "FETCH_DELAYS", (0.0, 0.0))
    platform.bursts = None
    platform.failures = {
        "big": [Rejected("larger than 20 MB")],
        "down": [Retry("no route", 0.0), Retry("no route", 0.0), Retry("no route", 0.0)],
        "twice": [Retry("no route", 0.0)],
    }
    await gateway.start()
    files = tuple(Attachment("", f"{name}.bin", remote=name) for name in ("big", "down", "twice"))
    await hand_in(gateway, 1, "look", attachments=files)
    start = await (await gateway.pool.ready()).answer("re")
    assert [file.name for file in start.attachments] == ["twice.bin"]
    assert start.text.splitlines() == [
        "look",
        "[The file big.bin of this message could not be fetched: larger than 20 MB]",
        "[The file down.bin of this message could not be fetched: no route]",
    ]


async def test_a_file_is_waited_for_until_its_platform_is_there(
    gateway: Gateway, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a start the messages of the life before are there sooner than the platforms are."""
    monkeypatch.setattr(arrivals, "OFFLINE_SECONDS", 0.0)
    platform.bursts = None
    platform.word = "connecting"
    platform.failures = {"r": [Retry("not connected", 0.0) for _ in range(50)]}
    await gateway.start()
    await hand_in(gateway, 1, "look", attachments=(Attachment("", "f.bin", remote="r"),))
    await until(lambda: len(platform.fetches) > 10)
    assert not gateway.pool.all
    platform.failures.clear()
    start = await (await gateway.pool.ready()).turn()
    assert (start.text, [file.name for file in start.attachments]) == ("look", ["f.bin"])


async def test_what_was_on_its_way_when_hermesd_died_comes_again_whole(gateway: Gateway, platform: Platform) -> None:
    platform.slow.clear()
    await gateway.start()
    await hand_in(gateway, 1, "one", attachments=(Attachment("", "f.txt", remote="r"),))
    await hand_in(gateway, 2, "two")
    await until(lambda: platform.fetches)
    platform.slow.set()
    await gateway.again()
    start = await (await gateway.pool.ready()).turn()
    assert start.text == "one\ntwo"
    assert [file.name for file in start.attachments] == ["f.txt"]


async def test_a_turn_is_seen_by_signs_and_typing(gateway: Gateway, platform: Platform) -> None:
    await gateway.start()
    await hand_in(gateway, 1, "one")
    worker = await gateway.pool.ready()
    start = await worker.accept()
    await until(lambda: platform.signs and platform.typed)
    assert list(gateway.lanes.writing()) == [Target("fake", "c1", reply_to="m1")]
    assert set(platform.typed) == {"c1"}, "again every two seconds"
    worker.say(Ask("a1", start.turn, "May I?", ("approve", "deny"), 60.0))
    await until(lambda: not list(gateway.lanes.writing()))  # it is the user's turn to say something
    assert gateway.life() == "waiting"
    await hand_in(gateway, 2, "/approve")
    await until(lambda: list(gateway.lanes.writing()))
    worker.finish(start, "re")
    await until(lambda: len(platform.signs) == 2)
    assert platform.signs == [("m1", "👀"), ("m1", "✅")]
    assert not list(gateway.lanes.writing())
    assert TYPING_SECONDS == 2.0
