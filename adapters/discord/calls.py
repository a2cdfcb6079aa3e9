"""What Discord and its library raise, as what the core may do next: the one table."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import discord

from hermesd.adapters.errors import AdapterError, DeliveryError, Gone, Rejected, Retry, StartLater, Unauthorized

PORTAL = "https://discord.com/developers/applications"

_GONE = {
    10003: "the channel does not exist any more",
    10004: "the server does not know us any more",
    10008: "the message is not there any more",
    10013: "the user does not exist any more",
    10015: "the interaction is over",
    10062: "the interaction is over",
    50001: "we cannot see the channel",
    50007: "the user takes no direct messages from us",
    50083: "the thread is archived",
    160005: "the thread is locked",
}
"""Discord's JSON error codes (its documentation, Opcodes and Status Codes) after which nothing more goes to a place."""

_TOO_SOON = {
    20016: 5.0,  # slow mode
    20028: 5.0,  # the channel's write rate limit
    30046: 3600.0,  # too many edits of an old message
    40062: 5.0,  # a resource is limited
    130000: 5.0,  # the API is overloaded
}
"""Codes for "not now", with the seconds to wait where Discord names none."""

CLOUDFLARE_SECONDS = 60.0
SERVER_SECONDS = 5.0
NETWORK_SECONDS = 2.0

NETWORK = (OSError, aiohttp.ClientError, TimeoutError, asyncio.TimeoutError)


def failure(what: str, error: Exception) -> DeliveryError | AdapterError:
    """Why ``what`` (``cannot send``) failed. A call that was cut is `Retry`: every call of ours may be repeated."""
    match error:
        case DeliveryError() | AdapterError():
            return error
        case discord.RateLimited():
            return Retry(f"{what}: Discord asks to wait {error.retry_after:.1f} s", after=error.retry_after, flood=True)
        case discord.HTTPException():
            return _answered(what, error)
        case discord.DiscordException() | ValueError() | TypeError():
            return Rejected(f"{what}: {error}")
        case _ if isinstance(error, NETWORK):
            return Retry(f"{what}: {_said(error)}", after=NETWORK_SECONDS)
    return Rejected(f"{what}: {type(error).__name__}: {error}")


def _answered(what: str, error: discord.HTTPException) -> DeliveryError | AdapterError:
    text = (error.text or error.response.reason or "").strip()[:300]
    said = f"{what}: {text} (status {error.status}, code {error.code})"
    if error.status == 401:
        return unauthorized(said)
    if error.code in _GONE:
        return Gone(f"{what}: {_GONE[error.code]} (code {error.code})")
    if error.status == 429 or error.code in _TOO_SOON:
        after = _retry_after(error) or _TOO_SOON.get(error.code, CLOUDFLARE_SECONDS)
        return Retry(said, after=after, flood=error.status == 429)
    if error.status >= 500:
        return Retry(said, after=SERVER_SECONDS)
    if error.status == 404:
        return Gone(said)
    return Rejected(said)


def _retry_after(error: discord.HTTPException) -> float:
    try:
        return float(error.response.headers.get("Retry-After", 0))
    except (ValueError, AttributeError):
        return 0.0


def is_closed_to_us(error: Exception) -> bool:
    """Discord itself says that we may not see a place, or that it is not there. What stands before it (Cloudflare, a
    proxy) refuses with the same status and no code.
    """
    return isinstance(error, (discord.Forbidden, discord.NotFound)) and error.code != 0


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raises everything that goes wrong inside as `failure` has it."""
    try:
        yield
    except (discord.DiscordException, *NETWORK, ValueError, TypeError) as error:
        raise failure(what, error) from error


def ending(error: Exception) -> AdapterError:
    """Why the connection ended, or did not come up, as the core's reconnect table wants it."""
    match error:
        case AdapterError():
            return error
        case discord.LoginFailure():
            return unauthorized(f"cannot log in to Discord: {error}")
        case discord.PrivilegedIntentsRequired():
            return intents_missing("Discord closed the connection (code 4014)")
        case discord.ConnectionClosed(code=4004):
            return unauthorized("Discord closed the connection: the token is wrong (code 4004)")
        case discord.ConnectionClosed(code=4013):
            return Unauthorized("Discord closed the connection: it does not know our intents (code 4013)")
        case discord.ConnectionClosed():
            return StartLater(f"Discord closed the connection (code {error.code})")
        case discord.HTTPException(status=401):
            return unauthorized(f"cannot log in to Discord: {error}")
        case discord.HTTPException() | discord.GatewayNotFound():
            return StartLater(f"cannot connect to Discord: {error}")
        case _ if isinstance(error, NETWORK):
            return StartLater(f"cannot connect to Discord: {_said(error)}")
    # A fault of discord.py's: 2.7 raises AttributeError where a connection breaks before its first session is there.
    return StartLater(f"cannot stay connected to Discord: {type(error).__name__}: {error}")


def unauthorized(reason: str) -> Unauthorized:
    return Unauthorized(reason, fix=f"reset the token on the page Bot at {PORTAL} and set DISCORD_BOT_TOKEN to it")


def intents_missing(reason: str) -> Unauthorized:
    return Unauthorized(
        f"{reason}: the bot may not read what people write",
        fix=f"switch on Message Content Intent on the page Bot at {PORTAL}, or set message_content: false to be "
        "heard only in direct messages and when mentioned",
    )


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
