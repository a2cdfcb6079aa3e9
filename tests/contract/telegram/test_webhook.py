"""Updates that Telegram posts: with the secret only, and 200 only after they are kept."""

from __future__ import annotations

import socket

import aiohttp
import pytest
from harness.ports import free_port
from harness.telegram.core import Core
from harness.telegram.emulator import Emulator

from hermesd.adapters.errors import AdapterError, StartLater
from hermesd.adapters.telegram import adapter as adapter_module
from hermesd.adapters.telegram.adapter import TelegramAdapter

from .conftest import Connect

SECRET = "a-secret_of-the-webhook"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
async def adapter(telegram: Emulator, connect: Connect, port: int) -> TelegramAdapter:
    telegram.server.hook.resend = 0.05
    return await connect(
        webhook_url=f"http://127.0.0.1:{port}/tg", webhook_port=port, webhook_host="127.0.0.1", webhook_secret=SECRET
    )


async def test_what_waited_and_what_comes_arrives(telegram: Emulator, core: Core, connect: Connect, port: int) -> None:
    ann = telegram.user("Ann")
    said = [telegram.say(f"number {number}", ann) for number in range(20)]
    adapter = await connect(
        webhook_url=f"http://127.0.0.1:{port}/tg", webhook_port=port, webhook_host="127.0.0.1", webhook_secret=SECRET
    )
    said.append(telegram.say("later", ann))
    await core.until(lambda: len(core.kept) == 21)
    assert [int(one.message_id) for one in core.inbounds] == said
    assert not telegram.calls("getUpdates")
    assert adapter.describe()["mode"] == "webhook"
    assert telegram.calls("setWebhook")[-1].arguments["secret_token"] == SECRET


async def test_200_comes_only_after_it_is_kept(telegram: Emulator, core: Core, adapter: TelegramAdapter) -> None:
    core.refusal = "the disk is full"
    ann = telegram.user("Ann")
    said = telegram.say("hello", ann)
    await core.until(lambda: core.times.get((str(ann.id), str(said)), 0) >= 2)
    assert {status for _, status in telegram.server.hook.deliveries} == {503}
    assert telegram.waiting() == 1
    core.refusal = ""
    await core.message("hello")
    await telegram.wait_async(lambda: telegram.waiting() == 0)


async def test_only_telegram_may_post(
    telegram: Emulator, core: Core, adapter: TelegramAdapter, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    update = {
        "update_id": 1,
        "message": {"message_id": 1, "date": 1, "chat": {"id": 5, "type": "private"}, "text": "x"},
    }
    url = f"http://127.0.0.1:{port}/tg"
    async with aiohttp.ClientSession() as client:
        for headers, body, status in (
            ({}, update, 403),
            ({"X-Telegram-Bot-Api-Secret-Token": "wrong"}, update, 403),
            ({"X-Telegram-Bot-Api-Secret-Token": SECRET}, ["no update"], 400),
        ):
            async with client.post(url, json=body, headers=headers) as response:
                assert response.status == status
        async with client.get(url, headers={"X-Telegram-Bot-Api-Secret-Token": SECRET}) as response:
            assert response.status == 405
    assert core.kept == {}
    assert SECRET not in caplog.text


async def test_a_port_that_somebody_has_may_become_free(
    telegram: Emulator, core: Core, connect: Connect, port: int
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(StartLater, match="in use"):
            await connect(
                webhook_url="http://127.0.0.1/tg", webhook_port=port, webhook_host="127.0.0.1", webhook_secret=SECRET
            )
    assert not telegram.calls("setWebhook")


async def test_a_webhook_needs_a_secret(telegram: Emulator, connect: Connect) -> None:
    with pytest.raises(AdapterError, match="without a secret") as caught:
        await connect(webhook_url="https://example.org/tg")
    assert "TELEGRAM_WEBHOOK_SECRET" in caught.value.fix


async def test_polling_takes_the_webhook_away(telegram: Emulator, core: Core, connect: Connect, port: int) -> None:
    telegram.server.hook.resend = 0.05
    telegram.server.hook.set("http://127.0.0.1:1/dead", "", 0, None)
    await connect()
    telegram.say("hello", telegram.user("Ann"))
    await core.message("hello")
    assert telegram.server.hook.url == ""


async def test_a_webhook_that_somebody_else_has_set_is_a_conflict(
    telegram: Emulator, core: Core, adapter: TelegramAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    telegram.server.hook.url = "https://example.org/theirs"
    bot = adapter._bot
    assert bot is not None
    monkeypatch.setattr(adapter_module, "WATCH_SECONDS", 0.01)
    await adapter._watch(bot, "http://127.0.0.1/ours")
    assert "another webhook is set" in str(core.losses[0])
    assert adapter.state().word == "conflict"
