"""What one connection of ``hermesctl chat`` has shown, and what it has not."""

from __future__ import annotations

import asyncio

import pytest

from hermesd.adapters.contract import Outbound
from hermesd.adapters.errors import Gone
from hermesd.supervisor.control.handlers.chat import ChatFront


async def test_an_answer_is_shown_once_it_is_written_and_not_before() -> None:
    front = ChatFront(["m1"])
    answering = asyncio.ensure_future(front.answer("m1", Outbound("k", "hello")))
    shown = await front.events.get()
    assert shown is not None
    assert shown.event == {"kind": "answer", "text": "hello", "turn": "m1", "final": True}
    await asyncio.sleep(0)
    assert not answering.done()
    shown.written()
    await answering
    assert (front.answered, front.waiting) == (1, set())


async def test_what_was_not_written_when_the_connection_ended_was_not_shown() -> None:
    front = ChatFront(["m1"])
    answering = asyncio.ensure_future(front.answer("m1", Outbound("k", "hello")))
    assert await front.events.get() is not None
    front.left()
    with pytest.raises(Gone):
        await answering
    with pytest.raises(Gone):
        await front.answer("m1", Outbound("k", "hello"))
    assert front.waiting == {"m1"}


async def test_only_the_answer_to_one_of_its_lines_is_final() -> None:
    front = ChatFront()
    answering = asyncio.ensure_future(front.answer("of another chat", Outbound("k", "hello")))
    shown = await front.events.get()
    assert shown is not None
    assert shown.event["final"] is False
    shown.written()
    await answering
    assert front.answered == 0


async def test_a_line_fails_once() -> None:
    front = ChatFront(["m1"])
    front.fail("m1", "no")
    front.fail("m1", "no")
    assert (front.failed, front.events.qsize()) == (1, 1)
