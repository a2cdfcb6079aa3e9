"""What Telegram and python-telegram-bot complain about, as errors that say what the core may do next. Pure.

python-telegram-bot puts BadRequest, TimedOut and whatever httpx raises under NetworkError; what was behind it is the
``__cause__`` (telegram/request/_httpxrequest.py `do_request`).
"""

from __future__ import annotations

import datetime as dtm
from dataclasses import dataclass

import httpx
from telegram import error as tg

from hermesd.adapters.errors import (
    AdapterError,
    Conflict,
    Gone,
    Rejected,
    Retry,
    StartLater,
    Unauthorized,
    Uncertain,
)

NETWORK_PAUSE = 2.0
SERVER_PAUSE = 5.0

NEW_TOKEN = "get the bot's token from @BotFather and set TELEGRAM_BOT_TOKEN"
ONE_POLLER = "stop the other program that uses this token, or give one of them a bot of its own"

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
"""The request has not left this machine."""

# By words of Telegram's description, in small letters; the first one that is found decides.
_BAD_REQUESTS: tuple[tuple[str, type[Gone | Rejected]], ...] = (
    ("chat not found", Gone),
    ("private chat not found", Gone),
    ("user not found", Gone),
    ("peer_id_invalid", Gone),
    ("chat_id is empty", Gone),
    ("chat_write_forbidden", Gone),
    ("not enough rights", Gone),
    ("have no rights to send", Gone),
    ("need administrator rights", Gone),
    ("message to edit not found", Gone),
    ("message to react not found", Gone),
    ("message_id_invalid", Gone),
    ("wrong file_id or the file is temporarily unavailable", Gone),
    ("message thread not found", Gone),
    ("topic_deleted", Gone),
    ("topic_closed", Gone),
)


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of python-telegram-bot, made plain."""

    kind: str  # "flood" | "moved" | "token" | "conflict" | "refused" | "forbidden" | "unsent" | "cut" | "server"
    text: str
    after: float = 0.0
    chat_id: int = 0  # where the chat has moved to

    def says(self, *words: str) -> bool:
        text = self.text.casefold()
        return any(word in text for word in words)

    @property
    def is_not_modified(self) -> bool:
        return self.kind == "refused" and self.says("message is not modified")

    @property
    def thread_is_gone(self) -> bool:
        return self.kind == "refused" and self.says("message thread not found", "topic_deleted", "topic_closed")

    @property
    def entities_are_refused(self) -> bool:
        return self.kind == "refused" and self.says("entit")

    @property
    def file_kind_is_refused(self) -> bool:
        """It would be taken as an ordinary file."""
        return self.kind == "refused" and self.says(
            "voice_messages_forbidden",
            "image_process_failed",
            "photo_",
            "file is too big",
            "wrong type of the web page",
        )

    @property
    def sticker_is_refused(self) -> bool:
        """It would be taken as what it is besides."""
        return self.kind == "refused" and self.says("to send stickers", "sticker_")

    @property
    def is_missing(self) -> bool:
        """A message that shall be deleted is not there."""
        return self.kind == "refused" and self.says("message to delete not found", "message_id_invalid")


def failure(error: tg.TelegramError, token: str = "") -> Failure:
    """Tell the kinds apart. The token does not stay in the text: python-telegram-bot writes it into some
    (telegram/_bot.py `initialize`).
    """
    text = f"{error}".replace(token, "…") if token else f"{error}"
    cause = error.__cause__
    if isinstance(error, tg.RetryAfter):
        return Failure("flood", text, after=_seconds(error))
    if isinstance(error, tg.ChatMigrated):
        return Failure("moved", text, chat_id=error.new_chat_id)
    if isinstance(error, tg.InvalidToken):
        return Failure("token", text)
    if isinstance(error, tg.Conflict):
        return Failure("conflict", text)
    if isinstance(error, tg.Forbidden):
        return Failure("forbidden", text)
    if isinstance(error, tg.BadRequest):
        return Failure("refused", text)
    if isinstance(cause, _NEVER_SENT):
        return Failure("unsent", _reason(cause, token), after=NETWORK_PAUSE)
    if isinstance(cause, httpx.HTTPError):
        return Failure("cut", _reason(cause, token), after=NETWORK_PAUSE)
    return Failure("server", text, after=SERVER_PAUSE)


def adapter_error(found: Failure, what: str, *, repeatable: bool = False) -> AdapterError:
    """What the core is told. ``what`` completes "cannot …"; a ``repeatable`` call may be made twice."""
    said = f"cannot {what}: {found.text}"
    if found.kind == "flood":
        return Retry(said, after=found.after, flood=True)
    if found.kind == "token":
        return Unauthorized(said, fix=NEW_TOKEN)
    if found.kind == "conflict":
        return Conflict(said, fix=ONE_POLLER)
    if found.kind in ("forbidden", "moved"):
        return Gone(said)
    if found.kind == "unsent":
        return Retry(said, after=found.after)
    if found.kind == "refused":
        return next((kind for words, kind in _BAD_REQUESTS if found.says(words)), Rejected)(said)
    # The connection broke after the request had left, or a server of Telegram's stumbled over it.
    return Retry(said, after=found.after) if repeatable else Uncertain(said, after=found.after)


def start_error(found: Failure) -> AdapterError:
    """Why the connection cannot be made."""
    said = f"cannot connect to Telegram: {found.text}"
    if found.kind == "token":
        return Unauthorized(said, fix=NEW_TOKEN)
    if found.kind == "conflict":
        return Conflict(said, fix=ONE_POLLER)
    if found.kind == "refused":
        return AdapterError(said)
    return StartLater(said)


def _seconds(error: tg.RetryAfter) -> float:
    after = error.retry_after
    return after.total_seconds() if isinstance(after, dtm.timedelta) else float(after)


def _reason(cause: Exception, token: str) -> str:
    text = f"{type(cause).__name__} {cause}".strip()
    return text.replace(token, "…") if token else text
