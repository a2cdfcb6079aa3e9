"""The installed hermesd with Telegram: people write to an emulated Bot API and read what the bot says there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from harness.running import running
from harness.telegram.emulator import Emulator
from harness.telegram.world import Chat


def config(telegram: Emulator, **extra: Any) -> dict[str, Any]:
    return {
        "platforms": {
            "telegram": {"enabled": True, "token": telegram.token, "extra": {"base_url": telegram.base_url, **extra}}
        }
    }


ENV = {"TELEGRAM_ALLOW_ALL_USERS": "true"}


@pytest.fixture
def telegram() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


def answer(telegram: Emulator, chat: Chat, message_id: int) -> str:
    found = telegram.wait(lambda: telegram.answers(chat, message_id), what=f"an answer to {message_id}")
    return found[-1].text


def test_a_message_is_answered_in_its_chat_as_a_reply(telegram: Emulator) -> None:
    with running(config(telegram), env=ENV):
        ann = telegram.user("Ann")
        asked = telegram.say("good morning", ann)
        assert "good morning" in answer(telegram, telegram.private(ann), asked)
