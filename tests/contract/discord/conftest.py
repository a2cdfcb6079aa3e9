"""A Discord on loopback and a bot of ours on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from harness.discord.bot import Bot
from harness.discord.server import DiscordServer


@pytest.fixture
def server() -> Iterator[DiscordServer]:
    with DiscordServer() as made:
        yield made


@pytest.fixture
async def make_bot(server: DiscordServer) -> AsyncIterator[Callable[..., Bot]]:
    made: list[Bot] = []

    def make(**extra: Any) -> Bot:
        made.append(Bot(server, **extra))
        return made[-1]

    yield make
    for bot in made:
        if bot.adapter.state().word != "stopped":
            await bot.stop()


@pytest.fixture
async def bot(make_bot: Callable[..., Bot]) -> Bot:
    made = make_bot()
    await made.start()
    return made
