"""What the configuration says about Telegram. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

from yarl import URL

from hermesd.adapters.contract import AdapterSettings, Bursts
from hermesd.adapters.errors import AdapterError
from hermesd.adapters.options import Options
from hermesd.adapters.telegram import network, topics

DEFAULT_BASE = "https://api.telegram.org/bot"
WEBHOOK_PORT = 8443

CUT_FROM = 4000
"""Clients cut what is longer than 4,096 units, at a place of their choice before that."""

_TOKEN = re.compile(r"[0-9]+:[A-Za-z0-9_-]+")
_SECRET = re.compile(r"[A-Za-z0-9_-]{1,256}")


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where Telegram sends updates to, and where hermesd takes them: behind a proxy these are different places."""

    url: str
    host: str
    port: int
    secret: str = field(repr=False)

    @property
    def path(self) -> str:
        return URL(self.url).path or "/"


@dataclass(frozen=True, slots=True)
class TelegramOptions:
    token: str = field(repr=False)
    base_url: str
    base_file_url: str
    proxy: str = field(repr=False)
    require_mention: bool
    mention_patterns: tuple[re.Pattern[str], ...]
    free_response_chats: frozenset[str]
    reactions: bool
    link_previews: bool
    bursts: Bursts
    webhook: Webhook | None
    ways: network.Ways | None  # besides the server's name; None: there is none, or a proxy finds it
    topics: tuple[topics.Topic, ...]


def read(settings: AdapterSettings) -> TelegramOptions:
    """Raises `AdapterError` for what cannot work, with what to do about it."""
    options = Options(settings)
    base_url = _base_url(options.text("base_url", "TELEGRAM_BASE_URL", DEFAULT_BASE))
    proxy = options.text("proxy", "TELEGRAM_PROXY")
    return TelegramOptions(
        token=_token(settings.token.strip()),
        base_url=base_url,
        base_file_url=_address(options.text("base_file_url", "TELEGRAM_BASE_FILE_URL") or _file_url(base_url)),
        proxy=proxy,
        require_mention=options.flag("require_mention", "TELEGRAM_REQUIRE_MENTION", False),
        mention_patterns=_patterns(options.patterns("mention_patterns", "TELEGRAM_MENTION_PATTERNS")),
        free_response_chats=options.names("free_response_chats", "TELEGRAM_FREE_RESPONSE_CHATS"),
        reactions=options.flag("reactions", "TELEGRAM_REACTIONS", False),
        link_previews=options.flag("link_previews", "TELEGRAM_LINK_PREVIEWS", False),
        bursts=options.bursts(CUT_FROM),
        webhook=_webhook(options),
        ways=None if proxy else _ways(options, base_url),
        topics=topics.read(settings.extra.get("dm_topics"), "platforms.telegram.extra.dm_topics"),
    )


def _token(token: str) -> str:
    if not token:
        raise AdapterError(
            "cannot use Telegram: no bot token is set", fix="put TELEGRAM_BOT_TOKEN=… of @BotFather into .env"
        )
    if not _TOKEN.fullmatch(token):
        raise AdapterError(
            "cannot use Telegram: the bot token does not look like 123456789:AAF…",
            fix="copy the whole token of @BotFather into TELEGRAM_BOT_TOKEN",
        )
    return token


def _ways(options: Options, base_url: str) -> network.Ways | None:
    """``auto``: where Telegram's own server cannot be reached by its name, others are asked where it is."""
    wanted = {word.lower() for word in options.names("fallback_ips", "TELEGRAM_FALLBACK_IPS", ("auto",))}
    off = {"off", "false", "none"}  # YAML reads off as false
    addresses = sorted(wanted - off - {"auto"})
    for address in addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise AdapterError(
                f"cannot use TELEGRAM_FALLBACK_IPS (platforms.telegram.extra.fallback_ips): {address!r} is no IP "
                "address",
                fix="fallback_ips: auto",
            ) from None
    asks = "auto" in wanted and base_url == DEFAULT_BASE
    if wanted & off or not (addresses or asks):
        return None
    return network.Ways(URL(base_url).host or "", addresses, network.RESOLVERS if asks else ())


def _base_url(url: str) -> str:
    url = _address(url).rstrip("/")
    # The token follows at once: https://api.telegram.org/bot<token>/getMe
    return url if url.endswith("/bot") else f"{url}/bot"


def _file_url(base_url: str) -> str:
    return f"{base_url.removesuffix('/bot')}/file/bot"


def _address(url: str) -> str:
    try:
        parsed = URL(url)
        sound = parsed.scheme in ("http", "https") and bool(parsed.host)
    except ValueError:
        sound = False
    if not sound:
        raise AdapterError(
            f"cannot use platforms.telegram.extra.base_url: {url!r} is no http or https address",
            fix=f"base_url: {DEFAULT_BASE}",
        )
    return url


def _patterns(sources: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    compiled = []
    for source in sources:
        try:
            compiled.append(re.compile(source, re.IGNORECASE))
        except re.error as error:
            raise AdapterError(
                f"cannot use TELEGRAM_MENTION_PATTERNS (platforms.telegram.extra.mention_patterns): "
                f"{source!r} is no regular expression: {error}",
                fix=r"mention_patterns: ['\bhermes\b']",
            ) from error
    return tuple(compiled)


def _webhook(options: Options) -> Webhook | None:
    url = options.text("webhook_url", "TELEGRAM_WEBHOOK_URL")
    if not url:
        return None
    _address(url)
    secret = options.text("webhook_secret", "TELEGRAM_WEBHOOK_SECRET")
    if not _SECRET.fullmatch(secret):
        # Without one, everybody who finds the address could speak as anybody.
        raise AdapterError(
            "cannot use TELEGRAM_WEBHOOK_URL without a secret of letters, digits, _ and -",
            fix="set TELEGRAM_WEBHOOK_SECRET to what `openssl rand -hex 32` prints",
        )
    port = int(options.number("webhook_port", "TELEGRAM_WEBHOOK_PORT", WEBHOOK_PORT))
    if port > 65535:
        raise AdapterError(f"cannot use TELEGRAM_WEBHOOK_PORT: {port} is no port", fix=f"set it to {WEBHOOK_PORT}")
    return Webhook(url, options.text("webhook_host", "TELEGRAM_WEBHOOK_HOST", "0.0.0.0"), port, secret)
