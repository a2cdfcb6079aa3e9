"""What the configuration may say about Telegram."""

from __future__ import annotations

from typing import Any

import pytest

from hermesd.adapters.contract import AdapterSettings, Bursts
from hermesd.adapters.errors import AdapterError
from hermesd.adapters.telegram.options import TelegramOptions, read

TOKEN = "123456789:AAF-secret_part"


def options(environ: dict[str, str] | None = None, *, token: str = TOKEN, **extra: Any) -> TelegramOptions:
    return read(AdapterSettings("telegram", token=token, extra=extra, environ=environ or {}))


def test_what_holds_without_any() -> None:
    found = options()
    assert found.base_url == "https://api.telegram.org/bot"
    assert found.base_file_url == "https://api.telegram.org/file/bot"
    assert not found.require_mention
    assert not found.reactions
    assert not found.link_previews
    assert found.webhook is None
    assert found.bursts == Bursts(text=0.6, cut=2.0, cut_from=4000, album=0.8)
    assert "secret_part" not in repr(found)


def test_the_environment_goes_before_the_file() -> None:
    found = options(
        {"TELEGRAM_REQUIRE_MENTION": "true", "TELEGRAM_FREE_RESPONSE_CHATS": "-1, -2"}, require_mention=False
    )
    assert found.require_mention
    assert found.free_response_chats == {"-1", "-2"}
    assert options(free_response_chats=[-100123]).free_response_chats == {"-100123"}


def test_how_long_is_waited_for_more_is_said_as_for_hermes() -> None:
    assert options({"HERMES_TELEGRAM_TEXT_BATCH_DELAY_SECONDS": "0"}).bursts.text == 0.0


@pytest.mark.parametrize(
    "base",
    ["http://127.0.0.1:8081", "http://127.0.0.1:8081/", "http://127.0.0.1:8081/bot", "http://127.0.0.1:8081/bot/"],
)
def test_a_server_of_ones_own_also_gives_the_files(base: str) -> None:
    found = options(base_url=base)
    assert found.base_url == "http://127.0.0.1:8081/bot"
    assert found.base_file_url == "http://127.0.0.1:8081/file/bot"
    assert options(base_url=base, base_file_url="http://files/x").base_file_url == "http://files/x"


@pytest.mark.parametrize(
    ("token", "said"), [("", "no bot token"), ("abc", "does not look like"), ("1:a/../b", "does not look like")]
)
def test_a_token_that_cannot_be_one(token: str, said: str) -> None:
    with pytest.raises(AdapterError, match=said) as caught:
        options(token=token)
    assert "TELEGRAM_BOT_TOKEN" in caught.value.fix


@pytest.mark.parametrize("address", ["ftp://x", "api.telegram.org", "http://"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(AdapterError, match="base_url"):
        options(base_url=address)


def test_a_pattern_that_is_none_is_named() -> None:
    with pytest.raises(AdapterError, match=r"'\(hermes' is no regular expression"):
        options(mention_patterns=["(hermes"])
    [pattern] = options({"TELEGRAM_MENTION_PATTERNS": r"hey,? hermes"}).mention_patterns
    assert pattern.search("Hey Hermes")


def test_a_webhook() -> None:
    environ = {
        "TELEGRAM_WEBHOOK_URL": "https://example.org/tg/hook", "TELEGRAM_WEBHOOK_PORT": "9000",
        "TELEGRAM_WEBHOOK_SECRET": "s3cret",
    }  # fmt: skip
    webhook = options(environ).webhook
    assert webhook is not None
    assert (webhook.path, webhook.port, webhook.host) == ("/tg/hook", 9000, "0.0.0.0")
    assert "s3cret" not in repr(webhook)
    for wrong in ({"TELEGRAM_WEBHOOK_SECRET": ""}, {"TELEGRAM_WEBHOOK_SECRET": "with space"}):
        with pytest.raises(AdapterError, match="without a secret"):
            options(environ | wrong)
    with pytest.raises(AdapterError, match="70000 is no port"):
        options(environ | {"TELEGRAM_WEBHOOK_PORT": "70000"})


def test_other_ways_are_looked_for_only_to_telegrams_own_server() -> None:
    assert options().ways is not None
    assert options(base_url="http://127.0.0.1:8081").ways is None
    for off in ({"TELEGRAM_FALLBACK_IPS": "off"}, {"TELEGRAM_PROXY": "http://127.0.0.1:1"}):
        assert options(off).ways is None
    with pytest.raises(AdapterError, match=r"'telegram\.org' is no IP address"):
        options(fallback_ips=["149.154.166.110", "telegram.org"])


@pytest.mark.parametrize(
    "wanted",
    [
        "Research",
        [{"topics": [{"name": "x"}]}],
        [{"chat_id": "ann", "topics": [{"name": "x"}]}],
        [{"chat_id": 1, "topics": ["x"]}],
        [{"chat_id": 1, "topics": [{"name": ""}]}],
    ],
)
def test_topics_that_are_none_are_named(wanted: object) -> None:
    with pytest.raises(AdapterError, match="dm_topics") as caught:
        options(dm_topics=wanted)
    assert "chat_id" in caught.value.fix
    assert options(dm_topics=[{"chat_id": "7", "topics": [{"name": "x"}]}]).topics[0].chat == 7
