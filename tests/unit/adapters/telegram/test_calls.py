"""Errors of python-telegram-bot by what may be done next."""

from __future__ import annotations

import httpx
import pytest
from telegram import error as tg

from hermesd.adapters.errors import AdapterError, Conflict, Gone, Rejected, Retry, StartLater, Unauthorized, Uncertain
from hermesd.adapters.telegram.calls import adapter_error, failure, start_error


def caused(error: tg.TelegramError, cause: Exception) -> tg.TelegramError:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "repeatable"),
    [
        (tg.RetryAfter(7), Retry, Retry),
        (tg.InvalidToken(), Unauthorized, Unauthorized),
        (tg.Conflict("terminated"), Conflict, Conflict),
        (tg.Forbidden("bot was blocked by the user"), Gone, Gone),
        (tg.ChatMigrated(-1), Gone, Gone),
        (tg.BadRequest("Chat not found"), Gone, Gone),
        (tg.BadRequest("Not enough rights to send text messages to the chat"), Gone, Gone),
        (tg.BadRequest("Message is too long"), Rejected, Rejected),
        (caused(tg.NetworkError("x"), httpx.ConnectError("refused")), Retry, Retry),
        (caused(tg.TimedOut(), httpx.ConnectTimeout("x")), Retry, Retry),
        (caused(tg.TimedOut(), httpx.PoolTimeout("x")), Retry, Retry),
        (caused(tg.TimedOut(), httpx.ReadTimeout("x")), Uncertain, Retry),
        (caused(tg.TimedOut(), httpx.WriteTimeout("x")), Uncertain, Retry),
        (caused(tg.NetworkError("x"), httpx.ReadError("x")), Uncertain, Retry),
        (caused(tg.NetworkError("x"), httpx.WriteError("x")), Uncertain, Retry),
        (caused(tg.NetworkError("x"), httpx.RemoteProtocolError("x")), Uncertain, Retry),
        (tg.NetworkError("Bad Gateway (502)"), Uncertain, Retry),
        (tg.TelegramError("Invalid server response"), Uncertain, Retry),
    ],
)
def test_what_may_be_done(error: tg.TelegramError, kind: type[AdapterError], repeatable: type[AdapterError]) -> None:
    assert type(adapter_error(failure(error), "send")) is kind
    assert type(adapter_error(failure(error), "edit", repeatable=True)) is repeatable


def test_the_time_that_telegram_wants_is_kept() -> None:
    error = adapter_error(failure(tg.RetryAfter(7)), "send")
    assert isinstance(error, Retry)
    assert error.after == 7.0


def test_the_token_leaves_every_text() -> None:
    token = "1:secret"
    rejected = tg.InvalidToken(f"The token `{token}` was rejected by the server.")
    assert token not in str(start_error(failure(rejected, token)))
    cut = caused(tg.NetworkError("x"), httpx.ReadError(f"reading https://x/bot{token}/getMe"))
    assert token not in str(adapter_error(failure(cut, token), "send"))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (tg.InvalidToken(), Unauthorized),
        (tg.Conflict("x"), Conflict),
        (tg.NetworkError("x"), StartLater),
        (tg.RetryAfter(3), StartLater),
        (tg.BadRequest("x"), AdapterError),
    ],
)
def test_why_there_is_no_connection(error: tg.TelegramError, kind: type[AdapterError]) -> None:
    assert type(start_error(failure(error))) is kind
