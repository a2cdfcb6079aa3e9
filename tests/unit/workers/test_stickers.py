"""Stickers in words, and who is asked to look at them."""

from __future__ import annotations

from typing import Any

import pytest

from hermesd.ipc.messages import Described, File, StickerFacts
from hermesd.workers import stickers
from hermesd.workers.agents.contract import Turn

FRESH = StickerFacts("u1", "😀", "Cats")


class Blind:
    async def turn(self, turn: Turn, out: Any) -> str:
        return turn.text


class Seeing(Blind):
    def __init__(self, says: Any = "a cat\ud800 waves"):
        self.says = says
        self.looked: list[str] = []

    async def describe(self, path: str) -> Any:
        self.looked.append(path)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


async def in_words(agent: Any, facts: StickerFacts, text: str = "") -> tuple[str, list[Described]]:
    told: list[Described] = []
    turn = Turn("t1", text, "u", attachments=(File("/m/s.webp", "s.webp", kind="sticker", sticker=facts),))
    return (await stickers.in_words(agent, turn, told.append)).text, told


async def test_one_that_nobody_has_seen_is_looked_at_and_told() -> None:
    agent = Seeing()
    text, told = await in_words(agent, FRESH, "look")
    assert text == '[The user sent a sticker 😀 from the pack "Cats". It shows: a cat� waves]\nlook'
    assert agent.looked == ["/m/s.webp"]
    assert told == [Described("t1", "u1", "a cat� waves")]


async def test_one_that_is_known_is_not_looked_at_again() -> None:
    agent = Seeing()
    text, told = await in_words(agent, StickerFacts("u1", description="a dog"))
    assert text == "[The user sent a sticker. It shows: a dog]"
    assert (agent.looked, told) == ([], [])


async def test_an_agent_that_cannot_see_says_so_and_nothing_is_kept() -> None:
    text, told = await in_words(Blind(), FRESH)
    assert text == '[The user sent a sticker 😀 from the pack "Cats"; what it shows cannot be seen here]'
    assert told == []


async def test_an_animated_one_is_not_looked_at() -> None:
    agent = Seeing()
    text, told = await in_words(agent, StickerFacts("u1", "😀", animated=True))
    assert text == "[The user sent an animated sticker 😀]"
    assert (agent.looked, told) == ([], [])


@pytest.mark.parametrize("says", [RuntimeError("no key"), "", "  ", None, 7])
async def test_an_agent_that_fails_to_look_still_gets_its_message(says: Any) -> None:
    text, told = await in_words(Seeing(says), FRESH, "hi")
    assert text.endswith("cannot be seen here]\nhi")
    assert told == []


async def test_a_message_without_stickers_stays_as_it_is() -> None:
    turn = Turn("t1", "hi", "u", attachments=(File("/m/x.png", "x.png"),))
    assert await stickers.in_words(Seeing(), turn, lambda _: None) is turn
