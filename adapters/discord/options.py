"""What the configuration says about Discord, checked."""

from __future__ import annotations

import urllib.request
from dataclasses import dataclass, field
from typing import Final

from yarl import URL

from hermesd.adapters.contract import AdapterSettings, Bursts
from hermesd.adapters.errors import AdapterError
from hermesd.adapters.options import Options as Reader

HOST: Final = "discord.com"

BOTS: Final = ("none", "mentions", "all")

CUT_FROM: Final = 1900
"""Characters from which on a message was probably cut by its client, at 2,000."""


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of one bot; `read` makes them. Channels are ids; one in a list covers its threads too."""

    token: str = field(repr=False)
    require_mention: bool = True
    auto_thread: bool = True
    reactions: bool = True
    allow_bots: str = "none"  # a word of `BOTS`
    allowed_channels: frozenset[str] = frozenset()  # empty: all
    ignored_channels: frozenset[str] = frozenset()
    free_channels: frozenset[str] = frozenset()  # answered without a mention
    no_thread_channels: frozenset[str] = frozenset()
    message_content: bool = True  # False: works without the privileged intent, in direct messages and by mention only
    base_url: str = ""  # of the REST API, in place of Discord's own: a proxy, or a server of a test
    gateway_url: str = ""
    proxy: str = ""
    bursts: Bursts = field(default_factory=Bursts)
    private_media: bool = False  # files may come from addresses of this machine's network: for tests


def read(settings: AdapterSettings) -> Options:
    """Raises `AdapterError` for what cannot be used, naming where it was written."""
    reader = Reader(settings)
    base_url = _url(reader.text("base_url", ""), "base_url", ("http", "https")).rstrip("/")
    return Options(
        token=_token(settings),
        require_mention=reader.flag("require_mention", "DISCORD_REQUIRE_MENTION", True),
        auto_thread=reader.flag("auto_thread", "DISCORD_AUTO_THREAD", True),
        reactions=reader.flag("reactions", "DISCORD_REACTIONS", True),
        allow_bots=_bots(reader.text("allow_bots", "DISCORD_ALLOW_BOTS", "none")),
        allowed_channels=reader.names("allowed_channels", "DISCORD_ALLOWED_CHANNELS"),
        ignored_channels=reader.names("ignored_channels", "DISCORD_IGNORED_CHANNELS"),
        free_channels=reader.names("free_response_channels", "DISCORD_FREE_RESPONSE_CHANNELS"),
        no_thread_channels=reader.names("no_thread_channels", "DISCORD_NO_THREAD_CHANNELS"),
        message_content=reader.flag("message_content", "DISCORD_MESSAGE_CONTENT", True),
        base_url=base_url,
        gateway_url=_url(reader.text("gateway_url", ""), "gateway_url", ("ws", "wss")),
        proxy=_url(reader.text("proxy", "DISCORD_PROXY"), "proxy", ("http", "https")) or _common_proxy(base_url),
        bursts=reader.bursts(CUT_FROM),
        private_media=reader.flag("private_media", "", False),
    )


def _token(settings: AdapterSettings) -> str:
    token = settings.token.strip().removeprefix("Bot ").strip()
    if not token:
        raise AdapterError(
            "cannot use Discord without a token",
            fix="create a bot at https://discord.com/developers/applications and set DISCORD_BOT_TOKEN",
        )
    return token


def _common_proxy(base_url: str) -> str:
    """The environment's for everything (``HTTPS_PROXY``, ``NO_PROXY``), on the way to Discord's own servers."""
    if base_url or urllib.request.proxy_bypass(HOST):
        return ""
    proxies = urllib.request.getproxies()
    proxy = proxies.get("https") or proxies.get("all") or ""
    return proxy if proxy.startswith(("http://", "https://")) else ""  # aiohttp knows no others


def _bots(word: str) -> str:
    word = word.lower() or "none"
    if word not in BOTS:
        raise AdapterError(
            f"cannot use DISCORD_ALLOW_BOTS (platforms.discord.extra.allow_bots): {word!r} is none of "
            f"{', '.join(BOTS)}",
            fix="allow_bots: none",
        )
    return word


def _url(text: str, key: str, schemes: tuple[str, ...]) -> str:
    if not text:
        return ""
    try:
        scheme = URL(text).scheme
    except ValueError:
        scheme = ""
    if scheme not in schemes:
        raise AdapterError(
            f"cannot use platforms.discord.extra.{key}: it does not begin with {schemes[0]}://",
            fix=f"platforms.discord.extra.{key}: {schemes[-1]}://…",
        )
    return text
