"""One emulated Telegram for each test, and the adapter connected to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from harness.telegram.core import Core
from harness.telegram.emulator import Emulator

from hermesd.adapters import registry
from hermesd.adapters.contract import AdapterSettings
from hermesd.adapters.telegram.adapter import TelegramAdapter

Connect = Callable[..., Awaitable[TelegramAdapter]]


@pytest.fixture
def telegram() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
async def core() -> Core:
    return Core()


@pytest.fixture
async def connect(telegram: Emulator, core: Core) -> AsyncIterator[Connect]:
    """``await connect(require_mention=True)``: an adapter with more in its ``extra``; stopped at the end."""
    made: list[TelegramAdapter] = []

    async def connect(*, token: str = "", **extra: Any) -> TelegramAdapter:
        settings = AdapterSettings(
            "telegram", token=token or telegram.token, extra={"base_url": telegram.base_url, **extra}
        )
        adapter = registry.make("telegram", settings)
        assert isinstance(adapter, TelegramAdapter)
        made.append(adapter)
        await adapter.start(core)
        return adapter

    yield connect
    for adapter in made:
        await adapter.stop()
