"""The link thread between a real socket and a main thread that posts: order, resending, and what cannot be sent."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hermesd.ipc.codec import Codec
from hermesd.ipc.link import Event, Link, Received
from hermesd.ipc.messages import DOWN, UP, Delta, Heartbeat, Hello, Message, Status, Steer, ToolUse, Welcome
from hermesd.ipc.sockets import Router
from hermesd.workers.link_thread import LinkThread, Unsendable
from hermesd.workers.watchdog import Watchdog

CODEC = Codec(*DOWN, *UP)


class NoLogs:
    def notify(self, call: Any) -> None: ...

    def take(self, now: float, *, ending: bool = False) -> None: ...

    def due(self, now: float) -> None: ...


class Ends:
    """A link thread, whose main thread is the test's, and the supervisor that it talks to."""

    def __init__(self, endpoint: str):
        self.loop = asyncio.get_running_loop()
        self.changed = asyncio.Event()
        self.heard: list[Message] = []
        self.events: list[Event | Unsendable] = []
        self.to_lose = 0  # frames of numbered messages
        self.link = Link(CODEC, leads=True)
        self.router = Router(endpoint, self._on_frame)
        self.thread = LinkThread(
            endpoint=endpoint,
            identity="w1",
            link=Link(CODEC),
            hello=Hello("w1", "token", 1, 1, "1"),
            heartbeat=1.0,
            idle_heartbeat=20.0,
            call_soon=self.loop.call_soon_threadsafe,
            on_event=self._on_event,
            logs=NoLogs(),
            keeper_pidfd=-1,
            adopt_timeout=0.0,
            watchdog=Watchdog(sys.stderr),
            on_abandoned=lambda: None,
            captures=[],
        )

    async def open(self) -> None:
        self.thread.start()
        await self.until(lambda: any(isinstance(message, Heartbeat) for message in self.heard))

    def say(self, message: Message) -> None:
        self.link.send(message)
        self.flush()

    def flush(self) -> None:
        self.link.flush(self.loop.time(), lambda frame: self.router.send(b"w1", frame))

    async def until(self, condition: Any, seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    def said(self) -> list[Message]:
        return [message for message in self.heard if message.RELIABLE]

    def _on_frame(self, _identity: bytes, frame: bytes) -> None:
        if self.to_lose and CODEC.decode(frame).seq:
            self.to_lose -= 1
            return
        for event in self.link.receive(frame, self.loop.time()):
            if isinstance(event, Received):
                self.heard.append(event.message)
                if isinstance(event.message, Hello):
                    self.link.send(Welcome())
        self.flush()
        self.changed.set()

    def _on_event(self, event: Event | Unsendable) -> None:
        self.events.append(event)
        self.changed.set()
        if isinstance(event, Received) and isinstance(event.message, Steer) and event.message.text == "fail":
            raise RuntimeError("as told")


@pytest.fixture
async def ends(tmp_path: Path) -> AsyncIterator[Ends]:
    tmp_path.chmod(0o700)
    ends = Ends(f"ipc://{tmp_path}/s")
    await ends.open()
    yield ends
    await asyncio.to_thread(ends.thread.stop, 2.0)
    ends.router.close()


async def test_posts_keep_their_order_whichever_way_they_go(ends: Ends) -> None:
    posted = [ToolUse("t", str(number), "", "done") for number in range(2000)]
    for number, message in enumerate(posted):
        if number % 7 == 0:
            with ends.thread._guard:  # as while the thread handles what has come: this one and some more are queued
                ends.thread.post(message)
        else:
            ends.thread.post(message)
        if number % 50 == 0:
            ends.say(Steer("t", str(number)))
            await asyncio.sleep(0)
    await ends.until(lambda: len(ends.said()) == len(posted))
    assert ends.said() == posted
    await ends.until(lambda: len(ends.events) == 40)
    assert [event.message.text for event in ends.events] == [str(number) for number in range(0, 2000, 50)]  # type: ignore[union-attr]


async def test_text_that_comes_in_a_burst_is_few_frames(ends: Ends) -> None:
    for number in range(2000):
        ends.thread.post(Delta("t", f"{number},"))
    await ends.until(lambda: "".join(message.text for message in ends.said()).endswith("1999,"))  # type: ignore[attr-defined]
    texts = [message.text for message in ends.said()]  # type: ignore[attr-defined]
    assert "".join(texts) == "".join(f"{number}," for number in range(2000))
    assert len(texts) < 500


async def test_what_is_posted_while_the_thread_sleeps_is_sent_again_in_time_when_it_is_lost(ends: Ends) -> None:
    ends.to_lose = 1
    ends.thread.post(Status("t", "lost once"))
    await ends.until(ends.said, 10.0)  # and not with the next heartbeat, twenty seconds later
    assert ends.said() == [Status("t", "lost once")]
    assert ends.to_lose == 0


async def test_what_the_wire_cannot_carry_is_told_and_the_rest_goes_on(ends: Ends) -> None:
    too_long = Status("t", "x" * CODEC.max_frame)
    ends.thread.post(too_long)
    ends.thread.post(Status("t", "short"))
    await ends.until(lambda: ends.said() and ends.events)
    (event,) = ends.events
    assert isinstance(event, Unsendable)
    assert event.message is too_long
    assert ends.said() == [Status("t", "short")]


async def test_an_event_whose_handling_fails_takes_no_other_with_it(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    for text in ("one", "fail", "three"):
        ends.link.send(Steer("t", text))
    ends.flush()
    await ends.until(lambda: len(ends.events) == 3)
    assert [event.message.text for event in ends.events] == ["one", "fail", "three"]  # type: ignore[union-attr]
    assert "as told" in caplog.text


class Printed:
    """An output of which something is unread; it is not watched."""

    descriptor = -1
    is_taken = False

    def read(self) -> bool:
        return False

    def tick(self, now: float) -> None: ...

    def flush(self) -> None:
        self.is_taken = True


async def test_a_stop_in_the_middle_of_a_round_leaves_nothing_unread(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed, say_hello = Printed(), ends.thread._say_hello

    def stop_meanwhile(now: float) -> None:
        ends.thread._flush_seconds = 2.0
        ends.thread._stopping.set()
        ends.thread._dealer.wake()
        say_hello(now)

    monkeypatch.setitem(ends.thread._captures, printed.descriptor, printed)
    monkeypatch.setattr(ends.thread, "_say_hello", stop_meanwhile)
    ends.thread._dealer.wake()
    await asyncio.to_thread(ends.thread._thread.join, 60.0)
    assert printed.is_taken
